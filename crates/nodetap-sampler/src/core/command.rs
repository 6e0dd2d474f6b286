//! The command line that a process was started with, from its stack.

use nodetap_v8::Memory;

use super::Core;

/// As much of the main thread's stack is looked at, from its end.
const STACK_END: u64 = 8 << 20;
/// The most arguments, and the longest.
const MOST: usize = 4096;
const LONGEST: usize = 128 << 10;

/// The command line. Where it is not found, as much as the core file says of it.
pub(super) fn read(core: &Core) -> Vec<String> {
    from_stack(core).unwrap_or_else(|| {
        let words = core.notes.arguments.split(' ');
        words
            .filter(|it| !it.is_empty())
            .map(str::to_owned)
            .collect()
    })
}

/// What the kernel has put there (`create_elf_tables` in `fs/binfmt_elf.c`): how many
/// arguments, their addresses, 0, those of the environment, 0, the auxiliary vector,
/// of which there is a copy in the notes.
fn from_stack(core: &Core) -> Option<Vec<String>> {
    let auxiliary = &core.notes.auxiliary;
    if auxiliary.len() < 64 {
        return None;
    }
    // It lies in the same mapping as the main thread's frames.
    let main = core.threads().first()?.1.registers.rsp;
    let stack = core.segment_at(main)?.addresses.clone();
    let start = stack.end.saturating_sub(STACK_END).max(stack.start);
    let memory: &dyn Memory = core;
    let bytes = memory.bytes(start, (stack.end - start) as usize).ok()?;
    let mut at = memchr::memmem::rfind(&bytes, auxiliary)?;
    let mut previous = || {
        at = at.checked_sub(8)?;
        Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
    };
    if previous()? != 0 {
        return None;
    }
    while previous()? != 0 {}
    let mut arguments = Vec::new();
    // There may be fewer of them than its address seems to say.
    loop {
        let word = previous()?;
        if word == arguments.len() as u64 {
            break;
        }
        if arguments.len() == MOST {
            return None;
        }
        arguments.push(word);
    }
    let text = |&address: &u64| {
        let from = usize::try_from(address.checked_sub(start)?).ok()?;
        let text = bytes.get(from..)?;
        let end = memchr::memchr(0, &text[..text.len().min(LONGEST)])?;
        Some(String::from_utf8_lossy(&text[..end]).into_owned())
    };
    let arguments: Option<Vec<String>> = arguments.iter().rev().map(text).collect();
    // As of a live process: what is empty is left out.
    let arguments = arguments?.into_iter().filter(|it| !it.is_empty());
    Some(arguments.collect())
}
