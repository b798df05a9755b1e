import { ClipError } from './errors.js';

/** The element types, by their usual names, with their library names and their bytes. */
const TYPES = {
    float32: ['f32', 4],
    float16: ['f16', 2],
    bfloat16: ['bf16', 2],
    float64: ['f64', 8],
    float8_e4m3fn: ['f8_e4m3fn', 1],
    float8_e5m2: ['f8_e5m2', 1],
    int8: ['i8', 1],
    uint8: ['u8', 1],
    int16: ['i16', 2],
    uint16: ['u16', 2],
    int32: ['i32', 4],
    uint32: ['u32', 4],
    int64: ['i64', 8],
    uint64: ['u64', 8],
} as const;

/** An element type. JavaScript has no arrays of bfloat16 and 8-bit floats: their bits are in a `Uint16Array` or `Uint8Array`. */
export type ElementType = keyof typeof TYPES;

/** Every type. */
export const ELEMENT_TYPES = Object.keys(TYPES) as ElementType[];

/** A typed array of any kind, including those of newer engines. */
export interface TypedArray extends ArrayBufferView {
    readonly length: number;
    readonly BYTES_PER_ELEMENT: number;
    readonly [index: number]: number | bigint;
}

/** The array types of element types. For half floats, one of newer engines, or raw bits. */
export interface Arrays {
    float32: Float32Array;
    float16: TypedArray;
    bfloat16: Uint16Array;
    float64: Float64Array;
    float8_e4m3fn: Uint8Array;
    float8_e5m2: Uint8Array;
    int8: Int8Array;
    uint8: Uint8Array;
    int16: Int16Array;
    uint16: Uint16Array;
    int32: Int32Array;
    uint32: Uint32Array;
    int64: BigInt64Array;
    uint64: BigUint64Array;
}

/** Its name in the library. */
export function libraryName(type: ElementType): string {
    return TYPES[type][0];
}

/** Bytes of an element. */
export function bytesOf(type: ElementType): 1 | 2 | 4 | 8 {
    return TYPES[type][1];
}

const ARRAYS = {
    float32: Float32Array, float64: Float64Array, int8: Int8Array, uint8: Uint8Array, int16: Int16Array, uint16: Uint16Array,
    int32: Int32Array, uint32: Uint32Array, int64: BigInt64Array, uint64: BigUint64Array,
};

/** A new array of the same kind as another (for a subclass, the built-in kind). */
export function arrayLike(array: TypedArray, length: number): TypedArray {
    const name = Object.prototype.toString.call(array).slice(8, -1);
    const make = (globalThis as unknown as Record<string, new (length: number) => TypedArray>)[name]!;
    return new make(length);
}

/** An array of elements, or of raw bits if JavaScript has no such array. Half floats have one in newer engines. */
export function asArray(buffer: ArrayBuffer, type: ElementType): TypedArray {
    const { Float16Array: Half } = globalThis as { Float16Array?: new (buffer: ArrayBuffer) => TypedArray };
    if (type === 'float16' && Half) return new Half(buffer);
    return type in ARRAYS ? new ARRAYS[type as keyof typeof ARRAYS](buffer) : asUnsigned(buffer, type);
}

/** An array of unsigned integers. */
export type UnsignedArray = Uint8Array<ArrayBuffer> | Uint16Array<ArrayBuffer> | Uint32Array<ArrayBuffer> | BigUint64Array<ArrayBuffer>;

/** The bits of elements as integers of their size. */
export function asUnsigned(buffer: ArrayBuffer, type: ElementType): UnsignedArray {
    const arrays = { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array, 8: BigUint64Array };
    return new arrays[bytesOf(type)](buffer);
}

/** A type by its name. */
export function checkedType(name: string, type: string | undefined): ElementType {
    if (type === undefined) throw new ClipError('operand', `${name} has no type: give one of ${ELEMENT_TYPES.join(', ')}`);
    if (Object.hasOwn(TYPES, type)) return type as ElementType;
    throw new ClipError('operand', `no type of elements is called '${String(type)}': there are ${ELEMENT_TYPES.join(', ')}`);
}

/** A message of the library, with the names used here. */
export function translated(text: string): string {
    const types = ELEMENT_TYPES.map((type) => [libraryName(type), type] as const);
    const names = new Map<string, string>(types);
    return text.replace(/\b[a-z]+[a-z0-9_]*\b/g, (word) =>
        names.get(word) ?? (/^(clip|mask)_/.test(word) ? word.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase()) : word));
}

const OF_ARRAYS: Record<string, ElementType> = {
    Float32Array: 'float32', Float16Array: 'float16', Float64Array: 'float64', Int8Array: 'int8', Uint8Array: 'uint8',
    Uint8ClampedArray: 'uint8', Int16Array: 'int16', Uint16Array: 'uint16', Int32Array: 'int32', Uint32Array: 'uint32',
    BigInt64Array: 'int64', BigUint64Array: 'uint64',
};

/** The element type of an array, unless it holds raw bits of another type. */
export function typeOfArray(array: ArrayBufferView): ElementType {
    const name = Object.prototype.toString.call(array).slice(8, -1);
    const type = OF_ARRAYS[name];
    if (type) return type;
    throw new ClipError('operand', `a ${name} holds no elements that can be clipped: give a typed array, or { data, type }`);
}
