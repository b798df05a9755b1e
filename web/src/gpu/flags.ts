/** Flags of the WebGPU specification: they are not part of the type library, and not global if a page's device comes from elsewhere. */
export const USAGE = { MAP_READ: 0x1, COPY_SRC: 0x4, COPY_DST: 0x8, UNIFORM: 0x40, STORAGE: 0x80 } as const;

/** The usages of tensor buffers. */
export const TENSOR_USAGE = USAGE.STORAGE | USAGE.COPY_SRC | USAGE.COPY_DST;

/** The usages of readback buffers. */
export const READ_USAGE = USAGE.MAP_READ | USAGE.COPY_DST;

export const MAP_MODE_READ = 0x1;

export const STAGE_COMPUTE = 0x4;
