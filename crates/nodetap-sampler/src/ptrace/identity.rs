//! What identifies the functions on a stack: `JSFunction`, its `SharedFunctionInfo`,
//! its `Script`.
//!
//! Those of all frames are read together, while their thread stands still: first what
//! every function points to, then what that points to, and so on. Each of these waves
//! is one system call. What was found last time tells what the next waves will read,
//! so that as a rule the first one reads all; what it read is believed as far as the
//! pointers to it are those of now.

use nodetap_v8::{Memory, Tagged};
use rustc_hash::FxHashMap;

use crate::ebpf::ProcessConfig;

/// Function, shared, script (or scope info), a script behind that, and its id.
const WAVES: usize = 5;
/// How many functions are remembered from one time to the next.
const ROOM: usize = 1 << 13;

/// What identifies a function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub shared: u64,
    pub script: u64,
    pub script_id: u32,
    pub literal_id: u32,
    pub code: u64,
}

/// What functions were found to be when they were looked at last, by their address:
/// where to look, and no more.
#[derive(Debug, Default)]
pub(super) struct Guesses(FxHashMap<u64, Identity>);

/// The words of a target's memory that have been read, all at one moment.
#[derive(Debug, Default)]
struct Words {
    known: FxHashMap<u64, Option<u64>>,
    wanted: Vec<u64>,
}

impl Words {
    /// The word at `address`, or that it cannot be read; `None`: the next wave is to
    /// tell.
    fn at(&mut self, address: u64) -> Option<Option<u64>> {
        let known = self.known.get(&address).copied();
        if known.is_none() {
            self.wanted.push(address);
        }
        known
    }

    /// Likewise the half of a word at `address`, which is a multiple of 4.
    fn half_at(&mut self, address: u64) -> Option<Option<u32>> {
        let word = self.at(address & !7)?;
        Some(word.map(|word| (word >> (8 * (address % 8))) as u32))
    }

    /// Reads what is wanted.
    fn read(&mut self, memory: &dyn Memory) {
        self.wanted.sort_unstable();
        self.wanted.dedup();
        let words = memory.words_at(&self.wanted);
        self.known.extend(self.wanted.drain(..).zip(words));
    }
}

/// What identifies each of `functions`, which are tagged: added to `found`, unless it
/// is there.
pub(super) fn identify(
    functions: &[u64],
    config: &ProcessConfig,
    memory: &dyn Memory,
    guesses: &mut Guesses,
    found: &mut FxHashMap<u64, Identity>,
) {
    let mut missing: Vec<u64> = functions.to_vec();
    missing.sort_unstable();
    missing.dedup();
    missing.retain(|function| !found.contains_key(function));
    if missing.is_empty() {
        return;
    }
    let mut words = Words::default();
    for function in &missing {
        if let Some(guess) = guesses.0.get(function) {
            // It says what it wants.
            let _ = of_shared(guess.shared, config, &mut words);
            let _ = script_id(guess.script, config, &mut words);
        }
    }
    if guesses.0.len() + missing.len() > ROOM {
        guesses.0.clear();
    }
    for _ in 0..=WAVES {
        missing.retain(|&function| {
            let Some(identity) = of_function(function, config, &mut words) else {
                return true;
            };
            guesses.0.insert(function, identity);
            found.insert(function, identity);
            false
        });
        if missing.is_empty() {
            return;
        }
        words.read(memory);
    }
}

/// The address of a field.
fn field(tagged: u64, offset: u32) -> u64 {
    tagged.wrapping_sub(1).wrapping_add(u64::from(offset))
}

/// What identifies `function`; `None` as long as words of it are wanted.
fn of_function(function: u64, config: &ProcessConfig, words: &mut Words) -> Option<Identity> {
    match words.at(field(function, config.function_shared))? {
        Some(shared) if Tagged(shared).is_heap_object() => of_shared(shared, config, words),
        _ => Some(Identity::default()),
    }
}

/// What identifies the function that `shared`, a tagged pointer, belongs to.
fn of_shared(shared: u64, config: &ProcessConfig, words: &mut Words) -> Option<Identity> {
    // All of them are to be wanted at once.
    let script = words.at(field(shared, config.shared_script));
    let literal_id = match config.shared_scope_info {
        0 => words.half_at(field(shared, config.shared_literal_id)),
        offset => match words.at(field(shared, offset)) {
            Some(Some(info)) => place(info, config, words),
            Some(None) => Some(None),
            None => None,
        },
    };
    let code = match config.shared_code {
        0 => Some(Some(0)),
        offset => words.at(field(shared, offset)),
    };
    let mut identity = Identity {
        shared,
        ..Identity::default()
    };
    let id = match script? {
        Some(script) if Tagged(script).is_heap_object() => script_id(script, config, words),
        _ => Some(0),
    };
    let (Some(script), Some(literal_id), Some(code)) = (script?, literal_id?, code?) else {
        return Some(identity);
    };
    identity.code = code;
    if !Tagged(script).is_heap_object() {
        return Some(identity);
    }
    identity.literal_id = literal_id;
    identity.script = script;
    identity.script_id = id?;
    if identity.script_id == 0
        && config.debug_info_script != 0
        && let Some(real) = words.at(field(script, config.debug_info_script))?
        && Tagged(real).is_heap_object()
    {
        let id = script_id(real, config, words)?;
        if id != 0 {
            identity.script = real;
            identity.script_id = id;
        }
    }
    Some(identity)
}

/// Where a function starts, with its kind (`ScopeInfo::literal` in `nodetap-v8`): from
/// its `ScopeInfo`, tagged. `None` as long as words of it are wanted; else whether it
/// tells.
fn place(info: u64, config: &ProcessConfig, words: &mut Words) -> Option<Option<u32>> {
    /// More locals than any function has.
    const MAX_LOCALS: u64 = 1 << 20;
    if !Tagged(info).is_heap_object() {
        return Some(None);
    }
    let start = field(info, config.scope_info_flags);
    let flags = words.at(start);
    let locals = words.at(start.wrapping_add(16));
    let (Some(flags), Some(locals)) = (flags?, locals?) else {
        return Some(None);
    };
    let flags = (flags >> 32) as u32;
    let locals = locals >> 32;
    if locals > MAX_LOCALS {
        return Some(None);
    }
    // The name of each local, and what is known of it.
    let mut at = 24 + 16 * locals;
    // On the stack, or in the context.
    if matches!(flags >> 7 & 3, 1 | 2) {
        at += 8;
    }
    if flags & config.scope_info_function_variable != 0 {
        at += 16;
    }
    if flags & config.scope_info_inferred_name != 0 {
        at += 8;
    }
    let place = words.at(start.wrapping_add(at))?;
    let kind = flags >> (config.scope_info_kind_shift & 31) & 31;
    let place = place.filter(|&place| place as u32 == 0);
    Some(place.map(|place| ((place >> 32) as u32) << 5 | kind))
}

/// `Script.id`, a Smi; 0 if it cannot be read or is none.
fn script_id(script: u64, config: &ProcessConfig, words: &mut Words) -> Option<u32> {
    let id = words.at(field(script, config.script_id))?.unwrap_or(0);
    // Without pointer compression a Smi's value is the upper half, the lower is 0.
    Some(match id as u32 {
        0 => (id >> 32) as u32,
        _ => 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nodetap_v8::Unreadable;
    use std::cell::Cell;
    use std::collections::BTreeMap;

    /// Counts how often it is asked.
    struct Heap {
        words: BTreeMap<u64, u64>,
        waves: Cell<u32>,
    }

    impl Memory for Heap {
        fn read(&self, address: u64, _: &mut [u8]) -> Result<(), Unreadable> {
            panic!("{address:#x} is read alone");
        }

        fn words_at(&self, addresses: &[u64]) -> Vec<Option<u64>> {
            self.waves.set(self.waves.get() + 1);
            let word = |address: &u64| self.words.get(address).copied();
            addresses.iter().map(word).collect()
        }
    }

    fn config() -> ProcessConfig {
        ProcessConfig {
            function_shared: 24,
            shared_script: 16,
            shared_literal_id: 44,
            script_id: 32,
            ..ProcessConfig::default()
        }
    }

    /// Functions at 0x1001 and 0x2001 of the scripts 7 and 8.
    fn heap() -> Heap {
        Heap {
            words: BTreeMap::from([
                (0x1018, 0x3001),
                (0x3010, 0x5001),
                (0x3028, 11 << 32 | 99),
                (0x5020, 7 << 32),
                (0x2018, 0x4001),
                (0x4010, 0x6001),
                (0x4028, 12 << 32),
                (0x6020, 8 << 32),
            ]),
            waves: Cell::new(0),
        }
    }

    fn look(heap: &Heap, config: &ProcessConfig, guesses: &mut Guesses) -> [Identity; 2] {
        let mut found = FxHashMap::default();
        heap.waves.set(0);
        let functions = [0x2001, 0x1001, 0x2001];
        identify(&functions, config, heap, guesses, &mut found);
        [found[&0x1001], found[&0x2001]]
    }

    fn ids(identities: [Identity; 2]) -> [(u64, u64, u32, u32); 2] {
        identities.map(|it| (it.shared, it.script, it.script_id, it.literal_id))
    }

    #[test]
    fn a_wave_for_each_step_and_one_where_nothing_has_moved() {
        let (heap, mut guesses) = (heap(), Guesses::default());
        let expected = [(0x3001, 0x5001, 7, 11), (0x4001, 0x6001, 8, 12)];
        assert_eq!(ids(look(&heap, &config(), &mut guesses)), expected);
        assert_eq!(heap.waves.get(), 3);
        assert_eq!(ids(look(&heap, &config(), &mut guesses)), expected);
        assert_eq!(heap.waves.get(), 1);
    }

    #[test]
    fn what_was_so_last_time_is_not_believed() {
        let (mut heap, mut guesses) = (heap(), Guesses::default());
        look(&heap, &config(), &mut guesses);
        // Another function stands where the first one stood, and the script of the
        // second has moved.
        heap.words.insert(0x1018, 0x4001);
        heap.words.insert(0x4010, 0x7001);
        heap.words.insert(0x7020, 9 << 32);
        let expected = [(0x4001, 0x7001, 9, 12), (0x4001, 0x7001, 9, 12)];
        assert_eq!(ids(look(&heap, &config(), &mut guesses)), expected);
        heap.words.remove(&0x2018);
        let [_, second] = look(&heap, &config(), &mut guesses);
        assert_eq!(second, Identity::default());
    }

    #[test]
    fn a_script_behind_a_debug_info_and_the_code_of_a_function() {
        let (mut heap, mut guesses) = (heap(), Guesses::default());
        let config = ProcessConfig {
            debug_info_script: 8,
            shared_code: 4,
            ..config()
        };
        heap.words.insert(0x3010, 0x9001);
        heap.words.insert(0x9020, 1);
        heap.words.insert(0x9008, 0x5001);
        heap.words.insert(0x3004, 0xc001);
        heap.words.insert(0x4004, 0xd001);
        heap.words.insert(0x4010, 5 << 32);
        for _ in 0..2 {
            let [first, second] = look(&heap, &config, &mut guesses);
            assert_eq!(
                ids([first, second]),
                [(0x3001, 0x5001, 7, 11), (0x4001, 0, 0, 0)]
            );
            assert_eq!((first.code, second.code), (0xc001, 0xd001));
        }
    }
}
