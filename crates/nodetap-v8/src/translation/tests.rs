//! How translations read: those of the binaries named, byte by byte.

use super::*;

fn function(shared: u32, bytecode_offset: i32) -> TranslatedFrame {
    TranslatedFrame::Function {
        shared,
        bytecode_offset,
        bytecode_array: None,
    }
}

fn all() -> [&'static TranslationFormat; 11] {
    [
        &V6_2, &V6_8, &V8, &V9_0, &V10, &V10_7, &V10_8, &V11, &V12, &V12_9, &V13,
    ]
}

#[test]
fn opcodes_agree_with_their_operands() {
    for format in all() {
        let count = |opcode: &u8| format.operands_of(*opcode).unwrap();
        assert!(
            format
                .begin
                .iter()
                .all(|opcode| (2..=3).contains(&count(opcode)))
        );
        assert!(format.builtin.iter().all(|opcode| count(opcode) == 3));
        assert!(format.function.iter().all(|opcode| count(opcode) >= 3));
        assert_eq!(count(&format.literal), 1);
        if let Some(last) = format.match_previous {
            assert_eq!(usize::from(last) + 1, format.operands.len());
            assert_eq!(count(&last), 1);
        }
    }
    assert_eq!(TranslationFormat::of(Version::new(12, 8)), None);
    assert_eq!(TranslationFormat::of(Version::new(14, 7)), None);
}

#[test]
#[rustfmt::skip]
fn frames_of_6_2_and_6_8_are_read() {
    // Two frames, both of JavaScript: each number's lowest bit says that
    // more follows, the next one is its sign.
    let frames = [
        1 << 2, 7 << 2, 0, 4 << 2, // INTERPRETED_FRAME
        18 << 2, 1 << 2, // STACK_SLOT
        1 << 2, 0x15, 0x02, 1 << 2, 0, // at 69
    ];
    let old: Vec<u8> = [0, 2 << 2, 2 << 2].into_iter().chain(frames).collect();
    let new: Vec<u8> = [0, 2 << 2, 2 << 2, 0].into_iter().chain(frames).collect();
    let expected = [function(0, 7), function(1, 69)];
    assert_eq!(V6_2.frames(&old, 0).unwrap(), expected);
    assert_eq!(V6_8.frames(&new, 0).unwrap(), expected);
    for end in 0..old.len() - 1 {
        assert_eq!(V6_2.frames(&old[..end], 0), None, "cut off at {end}");
    }
}

#[test]
#[rustfmt::skip]
fn frames_of_10_2_are_read() {
    let bytes = [
        0xff, // another translation
        3 << 1, 3 << 1, 2 << 1, 0, // BEGIN: 3 frames, 2 of JavaScript
        18 << 1, 7 << 1, 0, 4 << 1, 0, 0, // INTERPRETED_FRAME
        24 << 1, 1 << 1, // STACK_SLOT
        8 << 1, 0, 1 << 1, 2 << 1, // CONSTRUCT_STUB_FRAME
        22 << 1, 5 << 1, // LITERAL
        18 << 1, 0x89, 0x01, 1 << 1, 0, 0, 0, // at -68
    ];
    let frames = V10.frames(&bytes, 1);
    assert_eq!(
        frames.unwrap(),
        [function(0, 7), TranslatedFrame::Other, function(1, -68)]
    );
    assert_eq!(V10.frames(&bytes, 0), None);
    assert_eq!(V10.frames(&bytes, 6), None, "no BEGIN");
    assert_eq!(V10.frames(&bytes, 1000), None);
    for end in 1..bytes.len() - 3 {
        assert_eq!(V10.frames(&bytes[..end], 1), None, "cut off at {end}");
    }
}

#[test]
#[rustfmt::skip]
fn frames_of_8_4_are_read() {
    let bytes = [
        0, 2 << 2, 1 << 2, 0, // BEGIN: 2 frames, 1 of JavaScript
        6 << 2, 0, 2 << 2, // ARGUMENTS_ADAPTOR_FRAME
        25 << 2, 5 << 2, // LITERAL
        1 << 2, 0x13, 0x02, 3 << 2, 0, 0, 0, // INTERPRETED_FRAME at -68
    ];
    let frames = V8.frames(&bytes, 0);
    assert_eq!(frames.unwrap(), [TranslatedFrame::Other, function(3, -68)]);
    for end in 0..bytes.len() {
        assert_eq!(V8.frames(&bytes[..end], 0), None, "cut off at {end}");
    }
}

#[test]
#[rustfmt::skip]
fn frames_of_13_6_name_their_bytecode_and_inlined_builtins() {
    let bytes = [
        14, 0, 3 << 1, 3 << 1, // BEGIN_WITHOUT_FEEDBACK: 3 frames
        1, 40 << 1, 0, 9 << 1, 3, // INTERPRETED_FRAME_WITHOUT_RETURN
        37, // OPTIMIZED_OUT
        2, 0xa8, 0x09, 0, 4, // a JavaScript builtin, said to be function 0
        38, 6 << 1, // LITERAL: the builtin's JSFunction
        40, 2, // TAGGED_STACK_SLOT
        0, 1, 1 << 1, 10 << 1, 2, 0, 1 << 1, // with return, at its entry
    ];
    let expected = [
        TranslatedFrame::Function {
            shared: 0,
            bytecode_offset: 40,
            bytecode_array: Some(9),
        },
        TranslatedFrame::Builtin {
            shared: 0,
            closure: Some(6),
        },
        TranslatedFrame::Function {
            shared: 1,
            // A magnitude of 0 with the sign bit is 0 as well.
            bytecode_offset: 0,
            bytecode_array: Some(10),
        },
    ];
    assert_eq!(V13.frames(&bytes, 0).unwrap(), expected);
}

#[test]
#[rustfmt::skip]
fn what_matches_the_previous_translation_is_read_there() {
    // 12.4 has 40 opcodes.
    let mut bytes = vec![
        12, 0, 2 << 1, 2 << 1, // BEGIN
        1, 5 << 1, 0, 3, // function 0 at 5
        33, 1 << 1, // LITERAL
        32, // OPTIMIZED_OUT
        1, 6 << 1, 1 << 1, 3, // function 1 at 6
        32,
    ];
    let second = bytes.len();
    bytes.extend([
        12, second as u8, 2 << 1, 2 << 1, // looks back
        1, 8 << 1, 0, 3, // function 0 at 8
        40 + 2, // then the two values as before
        1, 9 << 1, 1 << 1, 3, // function 1 at 9
    ]);
    let third = bytes.len();
    bytes.extend([
        12, third as u8, 2 << 1, 2 << 1, // looks back to the first
        39, 5, // all as there
    ]);
    let frames = |index| V12.frames(&bytes, index).unwrap();
    assert_eq!(frames(0), [function(0, 5), function(1, 6)]);
    assert_eq!(frames(second), [function(0, 8), function(1, 9)]);
    assert_eq!(frames(third), [function(0, 5), function(1, 6)]);
}

#[test]
fn garbage_neither_panics_nor_loops() {
    // xorshift64, fixed seeds
    for seed in 1..400_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let length = (random() % 300) as usize;
        let small = random() % 2 == 0;
        let bytes: Vec<u8> = (0..length)
            .map(|_| (random() % if small { 48 } else { 256 }) as u8)
            .collect();
        for format in all() {
            for index in 0..length + 2 {
                let mut begun = bytes.clone();
                if let Some(byte) = begun.get_mut(index) {
                    *byte = format.begin[0] << u8::from(format.packed_opcodes);
                }
                if let Some(frames) = format.frames(&begun, index) {
                    assert!(frames.len() <= MAX_INSTRUCTIONS as usize);
                }
            }
        }
    }
}
