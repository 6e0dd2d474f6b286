// Unpacks the recording that stands in this page. `pack.rs` says what is where.

async function readRecording(text) {
  if (typeof DecompressionStream === 'undefined') {
    throw new Error('This browser is too old: it cannot unpack the recording (it has no ' +
      'DecompressionStream). Chromium 111, Firefox 113, Safari 16.4 and later can.');
  }
  const packed = decodeBase64(text.trim());
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream('deflate'));
  let bytes;
  try {
    bytes = new Uint8Array(await new Response(unpacked).arrayBuffer());
  } catch {
    throw new Error('This page is damaged: its recording cannot be unpacked.');
  }
  return unpack(new Reader(bytes));
}

function decodeBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
    this.decoder = new TextDecoder();
  }

  number() {
    return this.numbers(new Float64Array(1))[0];
  }

  column(length) {
    return this.numbers(new Uint32Array(length));
  }

  // Fills an array. Most numbers are of one byte or two, and there are millions.
  numbers(array) {
    const { bytes } = this;
    let { at } = this;
    for (let i = 0; i < array.length; i++) {
      let byte = bytes[at++];
      let number = byte & 0x7f;
      for (let shift = 7; byte > 0x7f; shift += 7) {
        byte = bytes[at++];
        // Above that, bits are not what numbers are made of.
        if (shift < 28) number |= (byte & 0x7f) << shift;
        else number += (byte & 0x7f) * 2 ** shift;
      }
      array[i] = number;
    }
    if (at > bytes.length) throw new Error('This page is damaged: its recording ends early.');
    this.at = at;
    return array;
  }

  // The same for signed numbers.
  signed(length) {
    const array = this.numbers(new Float64Array(length));
    for (let i = 0; i < length; i++) {
      const number = array[i];
      array[i] = number % 2 === 0 ? number / 2 : -(number + 1) / 2;
    }
    return array;
  }

  text(length) {
    const text = this.decoder.decode(this.bytes.subarray(this.at, this.at + length));
    this.at += length;
    return text;
  }
}

function unpack(reader) {
  const head = JSON.parse(reader.text(reader.number()));
  const lengths = reader.column(head.strings);
  const strings = Array.from(lengths, (length) => reader.text(length));
  const packages = {
    name: reader.column(head.packages),
    version: reader.column(head.packages),
    isDependency: reader.column(head.packages),
  };
  const column = () => reader.column(head.frames);
  const frames = {
    kind: column(),
    origin: column(),
    name: column(),
    file: column(),
    package: column(),
    functionLine: column(),
    functionColumn: column(),
    line: column(),
    column: column(),
    how: column(),
    source: column(),
  };
  // Stack 0 is the empty one.
  const back = reader.column(head.stacks - 1);
  const callers = new Uint32Array(head.stacks);
  for (let i = 1; i < head.stacks; i++) callers[i] = i - back[i - 1];
  const tops = new Uint32Array(head.stacks);
  tops.set(reader.column(head.stacks - 1), 1);
  const leaves = reader.column(head.leaves);
  const threads = head.threads.map(() => readRuns(reader, head));
  return { head, strings, packages, frames, callers, tops, leaves, threads };
}

function readRuns(reader, head) {
  const length = reader.number();
  const start = new Uint32Array(length);
  const end = new Uint32Array(length);
  const gaps = reader.signed(length);
  const extra = reader.signed(length);
  const count = reader.numbers(new Float64Array(length));
  const leaf = reader.column(length);
  let at = 0;
  for (let i = 0; i < length; i++) {
    start[i] = at + gaps[i];
    at = start[i] + extra[i] + count[i] * head.period;
    end[i] = at;
  }
  return { length, start, end, count, leaf };
}
