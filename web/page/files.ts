import { type ElementType, type UnsignedArray, asUnsigned, bytesOf } from '../src/elements.js';

/** A tensor in a file: its properties, and where its bytes are. */
export interface FileTensor {
    readonly name: string;
    readonly type: ElementType;
    readonly shape: readonly number[];
    readonly offset: number;
    readonly bytes: number;
}

const NPY_TYPES: Record<string, ElementType> = {
    f2: 'float16', f4: 'float32', f8: 'float64', i1: 'int8', u1: 'uint8', i2: 'int16', u2: 'uint16', i4: 'int32', u4: 'uint32',
    i8: 'int64', u8: 'uint64',
};

const SAFETENSORS_TYPES: Record<string, ElementType> = {
    F32: 'float32', F16: 'float16', BF16: 'bfloat16', F64: 'float64', F8_E4M3: 'float8_e4m3fn', F8_E5M2: 'float8_e5m2', I8: 'int8', U8: 'uint8',
    I16: 'int16', U16: 'uint16', I32: 'int32', U32: 'uint32', I64: 'int64', U64: 'uint64',
};

/** The content of a file: tensors, and the names of those that cannot be clipped. */
export interface Contents {
    readonly tensors: FileTensor[];
    readonly others: string[];
}

/** The tensors of a .npy or .safetensors file, which must be little-endian, like every browser. */
export function contentsOf(name: string, data: ArrayBuffer): Contents {
    const head = new Uint8Array(data, 0, Math.min(data.byteLength, 6));
    if (String.fromCharCode(...head) === '\x93NUMPY') return { tensors: [npy(data)], others: [] };
    if (name.endsWith('.safetensors')) return safetensors(data);
    throw new Error('this is no .npy and no .safetensors file');
}

function npy(data: ArrayBuffer): FileTensor {
    const view = new DataView(data);
    const [major, wide] = [view.getUint8(6), view.getUint8(6) > 1];
    if (major < 1 || major > 3) throw new Error(`this .npy file is of version ${major}, which is not known`);
    const length = wide ? view.getUint32(8, true) : view.getUint16(8, true);
    const offset = (wide ? 12 : 10) + length;
    if (offset > data.byteLength) throw new Error('this .npy file ends within its header');
    const header = new TextDecoder().decode(new Uint8Array(data, offset - length, length));
    const descr = header.match(/'descr'\s*:\s*'([<|=])([a-z]\d)'/);
    const dims = header.match(/'shape'\s*:\s*\(([^)]*)\)/);
    const type = descr && NPY_TYPES[descr[2]!];
    if (!type || !dims) throw new Error('this .npy file holds no numbers that can be clipped, or not in little-endian order');
    const shape = dims[1]!.split(',').filter((dim) => dim.trim() !== '').map(Number);
    return whole({ name: '', type, shape, offset, bytes: data.byteLength - offset });
}

function safetensors(data: ArrayBuffer): Contents {
    const length = data.byteLength < 8 ? Infinity : Number(new DataView(data).getBigUint64(0, true));
    if (8 + length > data.byteLength) throw new Error('this .safetensors file ends within its header');
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 8, length))) as Record<string, unknown>;
    const [tensors, others]: [FileTensor[], string[]] = [[], []];
    for (const [name, entry] of Object.entries(header).filter(([name]) => name !== '__metadata__')) {
        const { dtype, shape, data_offsets: [start, end] } = entry as { dtype: string; shape: number[]; data_offsets: [number, number] };
        const type = SAFETENSORS_TYPES[dtype];
        if (!type) {
            others.push(`${name} is left as it is: ${dtype} cannot be clipped`);
            continue;
        }
        if (8 + length + end > data.byteLength) throw new Error(`this .safetensors file ends within the tensor ${name}`);
        tensors.push(whole({ name, type, shape, offset: 8 + length + start, bytes: end - start }));
    }
    return { tensors, others };
}

function whole(tensor: FileTensor): FileTensor {
    const elements = tensor.shape.reduce((product, dim) => product * dim, 1);
    if (elements * bytesOf(tensor.type) === tensor.bytes) return tensor;
    throw new Error(`the tensor ${tensor.name} has ${tensor.bytes} bytes, but its shape [${tensor.shape}] of ${tensor.type} takes others`);
}

/** The bits of a tensor's elements, as a copy. */
export function elementsOf(data: ArrayBuffer, { type, offset, bytes }: FileTensor): UnsignedArray {
    return asUnsigned(data.slice(offset, offset + bytes), type);
}
