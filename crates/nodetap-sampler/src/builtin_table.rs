//! The names of builtins that are on V8's heap, by their numbers.
//!
//! V8 keeps them in a table without a symbol, `builtin_metadata`
//! (`src/builtins/builtins.cc`). The function that looks a name up there has
//! one, and its few instructions say where the table is. V8 5.8 has no such table:
//! the function jumps to a piece of its code for each number, which returns the name.

use nodetap_v8::Memory;

/// Bytes of an entry: the name (a pointer), the kind, data of that kind.
const ENTRY: u64 = 24;
/// More builtins than V8 has.
const MAX_BUILTINS: u64 = 4096;
/// Longer than the name of any.
const MAX_NAME: usize = 128;
/// Bytes that the function has at most.
const FUNCTION: usize = 48;

/// The names in the order of their numbers; empty where `function`, which
/// is at that address in `memory`, is not the one that is known.
pub fn read(memory: &dyn Memory, function: u64) -> Vec<Box<str>> {
    let Ok(code) = memory.bytes(function, FUNCTION) else {
        return Vec::new();
    };
    if let Some(table) = table(&code) {
        // What follows the table is no pointer to a name.
        let name = |index| {
            let name = memory.u64(table.checked_add(ENTRY * index)?).ok()?;
            identifier(memory, name)
        };
        (0..MAX_BUILTINS).map_while(name).collect()
    } else if let Some((count, table)) = jump_table(&code) {
        let name = |index| {
            let case = memory.u64(table.checked_add(8 * index)?).ok()?;
            identifier(memory, returned(memory, case)?)
        };
        (0..count.min(MAX_BUILTINS)).map_while(name).collect()
    } else {
        Vec::new()
    }
}

/// Where the table is that `code` reads: three words an entry.
fn table(code: &[u8]) -> Option<u64> {
    // lea rax,[rdi+rdi*2]
    let triples = code
        .windows(4)
        .any(|bytes| bytes == [0x48, 0x8d, 0x04, 0x7f]);
    if !triples {
        return None;
    }
    code.windows(8).find_map(|bytes| match *bytes {
        // mov rax,[rax*8+table]
        [0x48, 0x8b, 0x04, 0xc5, ref table @ ..] => {
            u64::try_from(i32::from_le_bytes(table.try_into().ok()?)).ok()
        }
        _ => None,
    })
}

/// How many numbers `code` tells apart, and where the addresses are that it goes on
/// at for each of them.
fn jump_table(code: &[u8]) -> Option<(u64, u64)> {
    // cmp edi,last
    let [0x81, 0xff, last @ ..] = code.first_chunk::<6>()? else {
        return None;
    };
    let last = u32::from_le_bytes(*last);
    let table = code.windows(7).find_map(|bytes| match *bytes {
        // jmp [rdi*8+table]
        [0xff, 0x24, 0xfd, ref table @ ..] => {
            u64::try_from(i32::from_le_bytes(table.try_into().ok()?)).ok()
        }
        _ => None,
    })?;
    Some((u64::from(last) + 1, table))
}

/// What the code at `address` returns, if it does no more than that.
fn returned(memory: &dyn Memory, address: u64) -> Option<u64> {
    match *memory.bytes(address, 6).ok()? {
        // mov eax,value; ret
        [0xb8, ref value @ .., 0xc3] => Some(u64::from(u32::from_le_bytes(value.try_into().ok()?))),
        _ => None,
    }
}

/// The C string at `address`, if it is a name as C++ has them.
fn identifier(memory: &dyn Memory, address: u64) -> Option<Box<str>> {
    let bytes = memory.bytes(address, MAX_NAME).ok()?;
    let name = bytes.split(|&byte| byte == 0).next()?;
    let is_name = |&byte: &u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let fits = (1..MAX_NAME).contains(&name.len()) && name.iter().all(is_name);
    fits.then(|| String::from_utf8_lossy(name).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nodetap_v8::Unreadable;

    struct Bytes(Vec<u8>);

    const BASE: u64 = 0x40_0000;

    impl Memory for Bytes {
        fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Unreadable> {
            let start = address.wrapping_sub(BASE) as usize;
            let from = self.0.get(start..start.saturating_add(into.len()));
            into.copy_from_slice(from.ok_or(Unreadable { address })?);
            Ok(())
        }
    }

    #[test]
    fn names_are_read_until_there_is_none() {
        let mut bytes = vec![0; 0x400];
        // movsxd rdi,edi; lea rax,[rdi+rdi*2]; push rbp; mov rbp,rsp;
        // mov rax,[rax*8+table]; pop rbp; ret
        let code = [
            0x48, 0x63, 0xff, 0x48, 0x8d, 0x04, 0x7f, 0x55, 0x48, 0x89, 0xe5, 0x48, 0x8b, 0x04,
            0xc5, 0x00, 0x01, 0x40, 0x00, 0x5d, 0xc3,
        ];
        bytes[..code.len()].copy_from_slice(&code);
        bytes[0x200..0x20c].copy_from_slice(b"First\0Second");
        for (index, name) in [0x200, 0x206, 0x300].into_iter().enumerate() {
            let at = 0x100 + 24 * index;
            bytes[at..at + 8].copy_from_slice(&(BASE + name).to_le_bytes());
        }
        let names = read(&Bytes(bytes.clone()), BASE);
        assert_eq!(names, ["First".into(), "Second".into()]);
        assert_eq!(read(&Bytes(bytes.clone()), BASE + 1).len(), 2);
        bytes[6] = 0x77;
        assert!(read(&Bytes(bytes), BASE).is_empty());
        assert!(read(&Bytes(Vec::new()), BASE).is_empty());
    }

    #[test]
    fn names_are_read_from_the_cases_of_a_switch() {
        let mut bytes = vec![0; 0x400];
        // cmp edi,1; ja …; mov edi,edi; jmp [rdi*8+table]
        let code = [
            0x81, 0xff, 1, 0, 0, 0, 0x0f, 0x87, 0xe1, 0x0c, 0, 0, 0x89, 0xff, 0xff, 0x24, 0xfd,
            0x00, 0x01, 0x40, 0x00,
        ];
        bytes[..code.len()].copy_from_slice(&code);
        bytes[0x200..0x20c].copy_from_slice(b"First\0Second");
        for (index, (case, name)) in [(0x40, 0x206), (0x46, 0x200), (0x40, 0)]
            .into_iter()
            .enumerate()
        {
            let at = 0x100 + 8 * index;
            bytes[at..at + 8].copy_from_slice(&(BASE + case).to_le_bytes());
            if name != 0 {
                let at = case as usize;
                bytes[at] = 0xb8;
                bytes[at + 1..at + 5].copy_from_slice(&(BASE as u32 + name).to_le_bytes());
                bytes[at + 5] = 0xc3;
            }
        }
        let names = read(&Bytes(bytes.clone()), BASE);
        assert_eq!(names, ["Second".into(), "First".into()]);
        // The case is another instruction.
        bytes[0x46] = 0xb9;
        assert_eq!(read(&Bytes(bytes.clone()), BASE).len(), 1);
        bytes[1] = 0xfe;
        assert!(read(&Bytes(bytes), BASE).is_empty());
    }
}
