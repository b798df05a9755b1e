/** A model of one Clip between two numbers, as ONNX's protobuf. */
export function clipModel(min: number, max: number): Uint8Array {
    const text = new TextEncoder();
    const varint = (value: number): number[] => value < 128 ? [value] : [(value & 127) | 128, ...varint(value >>> 7)];
    const number = (field: number, value: number): number[] => [...varint(field << 3), ...varint(value)];
    const bytes = (field: number, content: Iterable<number>): number[] => {
        const list = [...content];
        return [...varint((field << 3) | 2), ...varint(list.length), ...list];
    };
    const string = (field: number, value: string): number[] => bytes(field, text.encode(value));
    const FLOAT = 1;
    const scalar = (name: string, value: number): number[] =>
        [...number(2, FLOAT), ...string(8, name), ...bytes(9, new Uint8Array(Float32Array.of(value).buffer))];
    const dimension = bytes(1, string(2, 'n'));
    const vector = (name: string): number[] =>
        [...string(1, name), ...bytes(2, bytes(1, [...number(1, FLOAT), ...bytes(2, dimension)]))];
    const node = [...string(1, 'x'), ...string(1, 'min'), ...string(1, 'max'), ...string(2, 'y'), ...string(4, 'Clip')];
    const graph = [
        ...bytes(1, node), ...string(2, 'clip'), ...bytes(5, scalar('min', min)), ...bytes(5, scalar('max', max)), ...bytes(11, vector('x')),
        ...bytes(12, vector('y')),
    ];
    return Uint8Array.from([...number(1, 8), ...bytes(7, graph), ...bytes(8, number(2, 13))]);
}
