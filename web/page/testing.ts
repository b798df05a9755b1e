// The package and its check, of one copy of each module.
export * from '../src/index.js';
export { Check } from './check.js';
