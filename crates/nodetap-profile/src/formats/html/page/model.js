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
  addRelativePlaces(functions, groups.list);
  // Samples without any frame count for this.
  const noFrames = functions.length;
  if (recording.leaves.includes(0)) {
    const nothing = describe('(no frames)', '', [0, 0], 0, groups.of(ORIGIN_UNKNOWN, 0));
    functions.push({ ...nothing, relativePlace: '' });
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
    file,
    line,
    place: file + position,
    shortPlace: baseName(file) + (file && line ? `:${line}` : ''),
  };
}

// Where paths are long it is their ends that tell: a package's begin with its name, the
// program's own are told from the folder that all of them are in.
function addRelativePlaces(functions, groups) {
  const modules = '/node_modules/';
  const isOwnFile = (it) => groups[it.group].origin === ORIGIN_OWN && it.file.startsWith('/') && !it.file.includes(modules);
  const root = commonFolder(functions.filter(isOwnFile).map((it) => it.file));
  for (const it of functions) {
    const inPackage = it.place.lastIndexOf(modules);
    if (inPackage >= 0) it.relativePlace = it.place.slice(inPackage + modules.length);
    else if (isOwnFile(it)) it.relativePlace = it.place.slice(root.length);
    else it.relativePlace = it.place;
  }
}

// The folder, with its last slash, that all paths are in.
function commonFolder(paths) {
  let common = paths[0] ?? '';
  for (const path of paths) {
    let same = 0;
    while (same < common.length && common[same] === path[same]) same++;
    common = common.slice(0, same);
  }
  return common.slice(0, common.lastIndexOf('/') + 1);
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
