/** Flags of the WebGPU specification: they are no part of the type library, and not global where a page's device comes from elsewhere. */
export const USAGE = { MAP_READ: 0x1, COPY_SRC: 0x4, COPY_DST: 0x8, UNIFORM: 0x40, STORAGE: 0x80 } as const;

/** What tensors are used for. */
export const TENSOR_USAGE = USAGE.STORAGE | USAGE.COPY_SRC | USAGE.COPY_DST;

/** What is read is copied to. */
export const READ_USAGE = USAGE.MAP_READ | USAGE.COPY_DST;

export const MAP_MODE_READ = 0x1;

export const STAGE_COMPUTE = 0x4;
