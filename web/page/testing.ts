// The package and its check, from a single copy of each module.
export * from '../src/index.js';
export { Check } from './check.js';
