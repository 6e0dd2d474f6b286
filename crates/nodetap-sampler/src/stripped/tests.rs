//! Binaries made up of what V8 has of its builtins.

use super::*;

const BIAS: u64 = 0x5500_0000_0000;
const CODE: u64 = 0x1000;
const DATA: u64 = 0x100_0000;
const NAMES: u64 = 0x200_0000;
const VARIABLES: u64 = 0x300_0000;
const COUNT: usize = 1200;

/// What V8 has of its builtins: number 7 is the interpreter's entry, and each
/// is a byte longer than the one before. The tables of pointers are where a
/// process has them that was moved.
struct Tables {
    code: Vec<u8>,
    data: Vec<u8>,
    names: Vec<u8>,
    variables: Vec<u8>,
}

fn name(number: usize) -> String {
    match number {
        7 => "InterpreterEntryTrampoline".to_owned(),
        _ => format!("Builtin_{number}"),
    }
}

fn tables(description_size: usize) -> Tables {
    let mut tables = Tables {
        code: Vec::new(),
        data: vec![0xee; HASHES_SIZE as usize],
        names: Vec::new(),
        // Something stands before and after.
        variables: vec![0; 64],
    };
    let mut pointers = Vec::new();
    for number in 0..COUNT {
        let start = tables.code.len();
        tables.code.resize(start + number + 1, 0x90);
        let mut description = vec![0x11; description_size];
        description[..4].copy_from_slice(&(start as u32).to_le_bytes());
        description[4..8].copy_from_slice(&(number as u32 + 1).to_le_bytes());
        tables.data.extend(description);
        tables.code.push(PADDING);
        let padded = tables.code.len().next_multiple_of(64);
        tables.code.resize(padded, PADDING);
        pointers.push(NAMES + tables.names.len() as u64);
        tables.names.extend(name(number).into_bytes());
        tables.names.push(0);
    }
    for pointer in pointers {
        tables.variables.extend((BIAS + pointer).to_le_bytes());
        tables.variables.extend([3, 0, 0, 0, 9, 9, 9, 9]);
        tables.variables.extend([8; 8]);
    }
    tables.variables.extend([0; 64]);
    for variable in [CODE, 0x1234_5678, DATA] {
        tables.variables.extend((BIAS + variable).to_le_bytes());
    }
    let size = tables.code.len() as u64;
    tables.variables.extend(size.to_le_bytes());
    tables
}

impl Tables {
    fn stripped(&self) -> Stripped<'_> {
        let file = |start, bytes, executable| Part {
            start,
            contents: Contents::File(bytes),
            executable,
        };
        let variables = Part {
            start: VARIABLES,
            contents: Contents::Process(self.variables.clone()),
            executable: false,
        };
        Stripped {
            parts: vec![
                file(CODE, &self.code, true),
                file(DATA, &self.data, false),
                file(NAMES, &self.names, false),
                variables,
            ],
            bias: BIAS,
        }
    }
}

#[test]
fn builtins_are_found_however_large_their_descriptions_are() {
    for size in [12, 16, 28, 32] {
        let tables = tables(size);
        let found = tables.stripped().builtins().expect("found");
        assert_eq!(found.range, CODE..CODE + tables.code.len() as u64);
        assert_eq!(found.names.len(), COUNT);
        assert_eq!(found.names[0], (CODE, "Builtin_0".into()));
        let seventh = (CODE + 7 * 64, "InterpreterEntryTrampoline".into());
        assert_eq!(found.names[7], seventh);
    }
}

#[test]
fn builtins_of_v8_8_6_are_found() {
    let mut tables = tables(8);
    tables
        .data
        .drain(..(HASHES_SIZE - WHOLE_HASHES_SIZE) as usize);
    let found = tables.stripped().builtins().expect("found");
    assert_eq!(found.range, CODE..CODE + tables.code.len() as u64);
    assert_eq!(found.names.len(), COUNT);
}

#[test]
fn what_does_not_fit_together_is_not_believed() {
    let found = |spoil: &dyn Fn(&mut Tables)| {
        let mut tables = tables(12);
        spoil(&mut tables);
        tables.stripped().builtins().is_some()
    };
    assert!(found(&|_| ()));
    let hashes = HASHES_SIZE as usize;
    assert!(!found(&|it| it.data[hashes + 12 * 5] += 64), "elsewhere");
    assert!(!found(&|it| it.data[hashes + 12 * 5 + 4] += 64), "longer");
    assert!(!found(&|it| it.data.truncate(12 * COUNT)), "one less");
    assert!(!found(&|it| it.code[1] = 0x90), "no padding");
    assert!(!found(&|it| it.variables[72] = 99), "one name less");
    assert!(!found(&|it| it.names[0] = b' '), "no name");
    let last = |it: &Tables| it.variables.len() - 16;
    assert!(!found(&|it| {
        let last = last(it);
        it.variables[last] = 8;
    }));
    assert!(!found(&|it| it.variables.truncate(last(it))), "no data");
    assert!(!found(&|it| it.variables.truncate(last(it) + 8)), "no size");
}

/// The same with a blob in one piece, as before V8 9.
fn in_one_piece() -> (Tables, usize) {
    let mut tables = tables(8);
    let descriptions = tables.data.split_off(HASHES_SIZE as usize);
    let mut blob = vec![0xee; WHOLE_HASHES_SIZE as usize];
    blob.extend(descriptions);
    let head = (blob.len() + 1).next_multiple_of(64);
    blob.resize(head, 0);
    blob.append(&mut tables.code);
    let variables = tables.variables.len() - 32;
    tables.variables.truncate(variables);
    tables.variables.extend((BIAS + CODE).to_le_bytes());
    tables.variables.extend((blob.len() as u64).to_le_bytes());
    tables.code = blob;
    (tables, head)
}

#[test]
fn a_blob_in_one_piece_is_found() {
    let (tables, head) = in_one_piece();
    let found = tables.stripped().builtins().expect("found");
    let first = CODE + head as u64;
    assert_eq!(found.range, first..CODE + tables.code.len() as u64);
    assert_eq!(found.names.len(), COUNT);
    let seventh = (first + 7 * 64, "InterpreterEntryTrampoline".into());
    assert_eq!(found.names[7], seventh);

    let is_found = |spoil: &dyn Fn(&mut Tables)| {
        let (mut tables, _) = in_one_piece();
        spoil(&mut tables);
        tables.stripped().builtins().is_some()
    };
    assert!(is_found(&|_| ()));
    let fifth = WHOLE_HASHES_SIZE as usize + 8 * 5;
    assert!(!is_found(&|it| it.code[fifth] += 64), "elsewhere");
    assert!(!is_found(&|it| it.code[head + 1] = 0x90), "no padding");
    assert!(!is_found(&|it| it.code.truncate(head + 64)), "no code");
    assert!(!is_found(&|it| {
        let size = it.variables.len() - 8;
        it.variables[size] += 1;
    }));
}

/// A table of `count` lengths a row.
fn sizes(count: usize) -> Vec<u8> {
    let rows = FIRST_SIZES.iter().zip([2, 3, 5]);
    rows.flat_map(|(first, other)| {
        let mut row = first.to_vec();
        row.resize(count, other);
        row
    })
    .collect()
}

#[test]
fn lengths_of_bytecodes_are_known_by_their_beginning() {
    let table = sizes(208);
    let mut bytes = vec![1; 5];
    bytes.extend(&table);
    bytes.extend([0; 300]);
    assert_eq!(bytecode_sizes_at(&bytes[5..]), Some(table.clone()));
    assert_eq!(bytecode_sizes_at(&bytes[4..]), None);
    let binary = |bytes: &[u8]| {
        let part = Part {
            start: 0,
            contents: Contents::Process(bytes.to_vec()),
            executable: false,
        };
        let parts = vec![part];
        Stripped { parts, bias: 0 }.bytecode_sizes()
    };
    assert_eq!(binary(&bytes), Some(table.clone()));
    assert_eq!(binary(&bytes[..700]), Some(table));
    for spoilt in [5 + 100, 5 + 208 + 100, 5 + 416 + 100] {
        let mut bytes = bytes.clone();
        bytes[spoilt] += 1;
        assert_eq!(binary(&bytes), None, "{spoilt}");
    }
    bytes.extend(sizes(210));
    bytes.extend([0; 300]);
    assert_eq!(binary(&bytes), None, "two of them");
    assert_eq!(binary(&[1, 1, 1, 1, 1, 2, 3, 4, 5, 5, 6]), None);
}
