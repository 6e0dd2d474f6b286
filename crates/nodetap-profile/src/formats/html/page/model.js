// What frames are of: functions, which the graph and the tables show, and groups, which
// are packages and what else code comes from.

// Frames of the same function differ in where it was executing, and in how.
function buildFunctions(recording) {
  const { head, strings, frames } = recording;
  const groups = new Groups(recording);
  const functions = [];
  const ofFrame = new Uint32Array(head.frames);
  const known = new Map();
  for (let i = 0; i < head.frames; i++) {
    const place = [frames.functionLine[i], frames.functionColumn[i]];
    const group = groups.of(frames.origin[i], frames.package[i]);
    const key = [frames.kind[i], frames.name[i], frames.file[i], group, ...place].join();
    let number = known.get(key);
    if (number === undefined) {
      number = functions.length;
      known.set(key, number);
      const file = strings[frames.file[i]];
      functions.push(describe(strings[frames.name[i]], file, place, frames.kind[i], group));
    }
    ofFrame[i] = number;
  }
  // Samples without any frame count for this.
  const noFrames = functions.length;
  if (recording.leaves.includes(0)) {
    functions.push(describe('(no frames)', '', [0, 0], 0, groups.of(ORIGIN_UNKNOWN, 0)));
  }
  const groupOf = Uint32Array.from(functions, (it) => it.group);
  return { functions, groups: groups.list, groupOf, ofFrame, noFrames };
}

function describe(name, file, [line, column], kind, group) {
  const position = file && line ? `:${line}${column ? `:${column}` : ''}` : '';
  return {
    name,
    kind,
    group,
    place: file + position,
    shortPlace: baseName(file) + (file && line ? `:${line}` : ''),
  };
}

const KIND_KERNEL = 4;
const ORIGIN_OWN = 0;
const ORIGIN_DEPENDENCY = 1;
const ORIGIN_WAITING = 7;
const ORIGIN_UNKNOWN = 8;

class Groups {
  constructor(recording) {
    this.recording = recording;
    this.list = [];
    this.known = new Map();
  }

  of(origin, packageNumber) {
    const isOfPackage = origin <= ORIGIN_DEPENDENCY && packageNumber > 0;
    const key = `${origin},${isOfPackage ? packageNumber : 0}`;
    let number = this.known.get(key);
    if (number === undefined) {
      number = this.list.length;
      this.known.set(key, number);
      const origins = this.recording.head.origins;
      const label = (isOfPackage && this.label(packageNumber - 1)) || origins[origin];
      this.list.push({ origin, label, originName: origins[origin] });
    }
    return number;
  }

  label(packageNumber) {
    const { packages, strings } = this.recording;
    const version = packages.version[packageNumber];
    const name = strings[packages.name[packageNumber]];
    return version ? `${name}@${strings[version]}` : name;
  }
}
