mod waiting;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::testing::{bare, deep, empty, hostile, several_processes, small};
use crate::{
    Format, Frame, Metadata, Package, Position, Process, Profile, Sample, Thread, formats,
};

/// All that a profile says, with ids replaced by what they stand for.
#[derive(Debug, PartialEq)]
struct Contents<'a> {
    metadata: &'a Metadata,
    processes: &'a [Process],
    threads: &'a [Thread],
    /// Time, thread, count, mode and frames of each sample.
    samples: Vec<(u64, usize, u32, Mode, Vec<&'a Frame>)>,
}

fn contents(profile: &Profile) -> Contents<'_> {
    let sample = |sample: io::Result<Sample>| {
        let sample = sample.unwrap();
        let frames = profile.stack_frames(sample.stack);
        let frames = frames.map(|frame| profile.frame(frame)).collect();
        let thread = sample.thread.index();
        (sample.time_us, thread, sample.count, sample.mode, frames)
    };
    Contents {
        metadata: &profile.metadata,
        processes: profile.processes(),
        threads: profile.threads(),
        samples: profile.samples().map(sample).collect(),
    }
}

fn written(profile: &Profile) -> Vec<u8> {
    crate::testing::written_bytes(profile, Format::Nodetap)
}

fn whole(file: &[u8]) -> Profile {
    let recording = read(file, true).unwrap();
    assert_eq!(recording.ending, Ending::Whole);
    recording.profile
}

/// A frame of each kind and tier, of a package, with and without columns; samples in each
/// mode, not all in the order of their times, some of which stand for many or for none.
fn all_there_is() -> Profile {
    let mut profile = small();
    let thread = profile.last_sample().unwrap().thread;
    let mut stack = crate::StackId::EMPTY;
    for (at, kind) in KINDS.into_iter().enumerate() {
        for tier in TIERS.into_iter().map(Some).chain([None]) {
            let at = at as u32;
            let frame = profile.intern_frame(Frame {
                file: tier.map(|tier| format!("/{tier:?}").into()),
                position: Position::new(at, u32::MAX),
                function_position: Position::new(u32::MAX, at),
                tier,
                inlined: at.is_multiple_of(2),
                package: tier.map(|tier| {
                    Arc::new(Package {
                        name: format!("{tier:?}").into(),
                        version: (at > 3).then(|| "1.0.0".into()),
                        is_dependency: at > 4,
                    })
                }),
                source: (!at.is_multiple_of(3)).then(|| format!("  line {}\t", at % 3).into()),
                ..Frame::new(kind, "f")
            });
            stack = profile.push_frame(stack, frame);
            for (count, mode) in (0_u32..).zip(MODES) {
                profile.add_sample(Sample {
                    count: count * count * 1000,
                    ..Sample::new(1_000_000 >> count, thread, stack, mode)
                });
            }
        }
    }
    profile
}

fn all() -> Vec<Profile> {
    let profiles = [small(), several_processes(), hostile(), bare(), empty().0];
    let mut profiles: Vec<Profile> = profiles.into();
    profiles.extend([deep(10_000), all_there_is()]);
    profiles
}

#[test]
fn what_was_written_is_read_again() {
    for profile in all() {
        let file = written(&profile);
        let again = whole(&file);
        assert_eq!(contents(&again), contents(&profile));
        assert_eq!(written(&again), file);
        let counted = read(file.as_slice(), false).unwrap().profile;
        assert_eq!(counted.samples().count(), 0);
        assert_eq!(counted.sample_count(), profile.sample_count());
    }
}

#[test]
fn it_takes_few_bytes() {
    let mut profile = small();
    let sample = profile.last_sample().unwrap();
    for at in 0..100_000_u64 {
        let time_us = 10_000 + 1001 * at + at % 7;
        profile.add_sample(Sample { time_us, ..sample });
    }
    let bytes = written(&profile).len();
    assert!(bytes < 2 * 100_000, "{bytes}");
}

#[test]
fn every_kind_tier_and_mode_has_its_place() {
    assert_eq!(MODES, Mode::ALL);
    for (at, kind) in KINDS.into_iter().enumerate() {
        assert_eq!(KINDS.iter().position(|it| *it == kind), Some(at));
    }
    for (at, tier) in TIERS.into_iter().enumerate() {
        assert_eq!(TIERS.iter().position(|it| *it == tier), Some(at));
    }
}

/// What is written while it goes on: after each sample what is new.
#[test]
fn what_is_written_bit_by_bit_is_the_same() {
    for profile in all() {
        let mut growing = Profile::new(profile.metadata.clone());
        growing.hand_out_samples();
        let mut writer = Writer::new(Vec::new());
        for process in profile.processes() {
            let unknown = Process {
                node: None,
                ..process.clone()
            };
            growing.add_process(unknown);
        }
        let mut elapsed = Duration::ZERO;
        for (at, sample) in profile.samples().enumerate() {
            let sample = sample.unwrap();
            while growing.threads().len() <= sample.thread.index() {
                let next = profile.threads()[growing.threads().len()].clone();
                growing.add_thread(next);
            }
            let mut frames: Vec<_> = profile.stack_frames(sample.stack).collect();
            frames.reverse();
            let frames: Vec<_> = frames
                .into_iter()
                .map(|frame| growing.intern_frame(profile.frame(frame).clone()))
                .collect();
            let stack = growing.intern_stack(frames);
            growing.add_sample(Sample { stack, ..sample });
            elapsed += Duration::from_millis(1);
            if at % 3 == 2 {
                writer.write_new(&mut growing, None, elapsed).unwrap();
            }
        }
        for process in profile.processes() {
            growing.add_process(process.clone());
        }
        for thread in &profile.threads()[growing.threads().len()..] {
            growing.add_thread(thread.clone());
        }
        let file = writer.finish(&mut growing).unwrap();
        assert_eq!(contents(&whole(&file)), contents(&profile));
    }
}

/// Where each block of a file ends.
fn ends(file: &[u8]) -> Vec<usize> {
    let mut ends = vec![MAGIC.len() + 4];
    while let Some(header) = file.get(ends[ends.len() - 1]..).filter(|it| !it.is_empty()) {
        let stored = u32::from_le_bytes(header[1..5].try_into().unwrap());
        ends.push(ends[ends.len() - 1] + block::HEADER + stored as usize);
    }
    ends
}

/// A recording of several blocks, each with one more sample.
fn in_blocks() -> Vec<u8> {
    let mut profile = bare();
    profile.hand_out_samples();
    let thread = crate::testing::add_thread(&mut profile, 1, 1, "node");
    let mut writer = Writer::new(Vec::new());
    for at in 0..5_u64 {
        let frame = profile.intern_frame(Frame::new(Kind::Js, format!("f{at}")));
        let stack = profile.intern_stack([frame]);
        profile.add_sample(Sample::new(at, thread, stack, Mode::JavaScript));
        let elapsed = Duration::from_secs(at);
        writer.write_new(&mut profile, None, elapsed).unwrap();
    }
    writer.finish(&mut profile).unwrap()
}

#[test]
fn a_file_is_read_up_to_its_last_whole_block() {
    let file = in_blocks();
    let ends = ends(&file);
    assert_eq!(ends.len(), 1 + 5 + 1, "{ends:?}");
    for cut in 0..file.len() {
        let result = read(&file[..cut], true);
        let blocks = ends.iter().filter(|&&end| end <= cut).count();
        match blocks {
            0 if cut < 8 => assert!(matches!(result, Err(ReadError::Form)), "{cut}"),
            0 | 1 => assert!(matches!(result, Err(ReadError::Nothing)), "{cut}"),
            blocks => {
                let recording = result.unwrap();
                assert_eq!(recording.ending, Ending::CutShort, "{cut}");
                let samples = blocks as u64 - 1;
                let seconds = Duration::from_secs(samples - 1);
                assert_eq!(recording.profile.sample_count(), samples, "{cut}");
                assert_eq!(recording.profile.metadata.duration, seconds, "{cut}");
            }
        }
    }
    assert_eq!(whole(&file).sample_count(), 5);
}

#[test]
fn no_flipped_bit_is_believed() {
    let file = in_blocks();
    let ends = ends(&file);
    for at in 0..file.len() {
        for bit in 0..8 {
            let mut flipped = file.clone();
            flipped[at] ^= 1 << bit;
            let before = ends.iter().filter(|&&end| end <= at).count();
            match read(flipped.as_slice(), true) {
                Err(ReadError::Form) => assert!(at < 8, "{at}"),
                Err(ReadError::Version(_)) => assert!((8..12).contains(&at), "{at}"),
                Err(ReadError::Nothing) => assert_eq!(before, 1, "{at}"),
                Err(ReadError::Io(error)) => panic!("{error}"),
                Ok(recording) => {
                    assert_ne!(recording.ending, Ending::Whole, "{at} {bit}");
                    if let Ending::Damaged { at: from } = recording.ending {
                        assert_eq!(from, ends[before - 1] as u64, "{at} {bit}");
                    }
                    let samples = (before as u64 - 1).min(5);
                    assert_eq!(recording.profile.sample_count(), samples, "{at} {bit}");
                }
            }
        }
    }
}

#[test]
fn what_is_no_recording_is_refused() {
    for garbage in [&b""[..], b"{}", b"nodetap", b"nodetap\x01____", &[0; 100]] {
        assert!(matches!(read(garbage, true), Err(ReadError::Form)));
    }
    let mut newer = in_blocks();
    newer[8] = 7;
    let error = read(newer.as_slice(), true).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a recording in form 7, and this version of nodetap reads form 1"
    );
    assert!(matches!(
        read(&b"nodetap\0\x01\0\0\0"[..], true),
        Err(ReadError::Nothing)
    ));
}

#[test]
fn what_a_later_version_adds_is_passed_over() {
    let mut file = in_blocks()[..12].to_vec();
    let mut payload = vec![77, 3, 1, 2, 3];
    block::write(99, b"anything", &mut file).unwrap();
    let mut section = Vec::new();
    for number in [4, 0, 0, 0] {
        crate::numbers::encode(&mut section, number);
    }
    payload.extend([METADATA, 7, 4]);
    payload.extend(b"ebpf");
    payload.extend([1, 0]);
    payload.push(0);
    // Its length is 8: the sampler with its length, a rate, and two numbers of the start.
    payload[6] = 8;
    payload.extend([PROGRESS, section.len() as u8]);
    payload.extend(section);
    payload.extend([TOTAL, 1, 0]);
    block::write(END, &payload, &mut file).unwrap();
    let profile = whole(&file);
    assert_eq!(profile.metadata.sampler, "ebpf");
    assert_eq!(profile.metadata.duration, Duration::from_nanos(4));
}

/// Numbers that look random and are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % end
    }
}

/// Changes something: a byte, a bit, a number, a part that is gone, double or of another.
fn mutate(file: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    if file.is_empty() {
        return;
    }
    let at = random.below(file.len());
    let part = |len: usize, random: &mut Random| {
        let start = random.below(len);
        start..start + 1 + random.below((len - start).min(64))
    };
    match random.below(8) {
        0 => file[at] ^= 1 << random.below(8),
        1 => file[at] = random.below(256) as u8,
        2 => file[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
        3 => file.truncate(at),
        4 => drop(file.drain(part(file.len(), random))),
        5 => {
            let double = file[part(file.len(), random)].to_vec();
            file.splice(at..at, double);
        }
        6 => {
            let foreign = &other[part(other.len(), random)];
            file.splice(at..at, foreign.iter().copied());
        }
        _ => {
            let end = (at + 1 + random.below(10)).min(file.len());
            file[at..end].fill(0xff);
        }
    }
}

/// Whatever can be read of it can be written in every format.
fn use_it(file: &[u8]) -> Option<u64> {
    let recording = read(file, true).ok()?;
    let profile = recording.profile;
    let told: u64 = profile
        .samples()
        .map(|it| u64::from(it.unwrap().count))
        .sum();
    assert_eq!(told, profile.sample_count());
    for format in Format::ALL {
        formats::write(&profile, format, &mut io::sink()).unwrap();
    }
    Some(profile.sample_count())
}

#[test]
fn no_changed_file_does_harm() {
    let files = [&all_there_is(), &several_processes(), &bare()].map(written);
    let files = [&files[0], &files[1], &files[2], &in_blocks()];
    let mut random = Random(0x1234_5678_9abc_def1);
    let mut read_some = 0;
    for round in 0..5_000 {
        let mut file = files[round % 4].clone();
        for _ in 0..1 + random.below(4) {
            mutate(&mut file, files[random.below(4)], &mut random);
        }
        // Some hundred are used as well: that takes longer.
        match round % 41 {
            0 => read_some += u64::from(use_it(&file).is_some()),
            _ => drop(read(file.as_slice(), true)),
        }
    }
    assert!(read_some > 10, "{read_some}");
}

/// Checksums keep most of that from what they protect: the same behind them.
#[test]
fn no_changed_payload_does_harm() {
    let file = written(&all_there_is());
    let other = written(&several_processes());
    let payloads = [&file, &other].map(|file| {
        let mut rest = &file[12..];
        match block::read(&mut rest).unwrap() {
            block::Block::Whole(_, payload) => payload,
            _ => panic!("no block"),
        }
    });
    let mut random = Random(0xfeed_beef_dead_cafe);
    let (mut whole, mut read_some) = (0, 0);
    for round in 0..5_000 {
        let mut payload = payloads[round % 2].clone();
        for _ in 0..1 + random.below(3) {
            mutate(&mut payload, &payloads[(round + 1) % 2], &mut random);
        }
        let mut file = file[..12].to_vec();
        block::write(NEW, &payload, &mut file).unwrap();
        match round % 21 {
            0 => read_some += u64::from(use_it(&file).is_some_and(|samples| samples > 0)),
            _ => {
                let ending = read(file.as_slice(), true).map(|it| it.ending);
                whole += u64::from(matches!(ending, Ok(Ending::CutShort)));
            }
        }
    }
    // Some are believed, for nothing is wrong with them.
    assert!(whole > 50 && read_some > 10, "{whole} {read_some}");
}

#[test]
fn a_small_file_does_not_fill_the_memory() {
    let file = written(&bare());
    let mut bomb = file[..ends(&file)[1]].to_vec();
    // Threads of three bytes each, all the same.
    let mut payload = Vec::new();
    payload.push(THREADS);
    crate::numbers::encode(&mut payload, 12 << 20);
    payload.resize(payload.len() + (12 << 20), 0);
    let mut block = Vec::new();
    block::write(NEW, &payload, &mut block).unwrap();
    let sound = bomb.len() + 2 * block.len();
    for _ in 0..10 {
        bomb.extend_from_slice(&block);
    }
    let recording = read(bomb.as_slice(), true).unwrap();
    assert_eq!(recording.ending, Ending::Damaged { at: sound as u64 });
    assert_eq!(recording.profile.threads().len(), 2 * (4 << 20));

    // A length that is not there is not believed.
    let mut short = file[..12].to_vec();
    short.extend([NEW, 0xff, 0xff, 0xff, 0, 1, 0, 0, 0, 1, 2, 3, 4, 5]);
    assert!(matches!(
        read(short.as_slice(), true),
        Err(ReadError::Nothing)
    ));
}

#[test]
fn an_output_that_fails_is_told() {
    struct Full(usize);
    impl io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.0.min(bytes.len()) {
                0 => Err(io::ErrorKind::StorageFull.into()),
                taken => {
                    self.0 -= taken;
                    Ok(taken)
                }
            }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (mut profile, _) = empty();
    profile.hand_out_samples();
    let mut writer = Writer::new(Full(20));
    let error = writer
        .write_new(&mut profile, None, Duration::ZERO)
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}

#[test]
fn nothing_new_is_written_seldom() {
    let mut profile = bare();
    profile.hand_out_samples();
    let mut writer = Writer::new(Vec::new());
    writer
        .write_new(&mut profile, None, Duration::ZERO)
        .unwrap();
    for tenths in 0..1000 {
        let elapsed = Duration::from_millis(100 * tenths);
        writer.write_new(&mut profile, None, elapsed).unwrap();
    }
    let file = writer.finish(&mut profile).unwrap();
    let blocks = ends(&file).len() - 1;
    assert!((10..14).contains(&blocks), "{blocks}");
}
