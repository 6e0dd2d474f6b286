//! Samples that wait to become final: they are there if the recording ends before they do.

use super::*;

/// A recording of samples each of which is written while it waits, and again when it does
/// not any more: `settled` says for each write how many have come by then, and how many
/// still wait. What they are called tells which it is.
fn recorded(writes: &[(usize, usize)]) -> (Vec<u8>, Profile) {
    let mut profile = bare();
    profile.hand_out_samples();
    let thread = crate::testing::add_thread(&mut profile, 1, 1, "node");
    let mut writer = Writer::new(Vec::new());
    let mut written = 0;
    let sample = |profile: &mut Profile, at: usize, name: &str| {
        let frames = ["main".to_owned(), format!("{name}{}", at % 3)];
        let frames = frames.map(|name| {
            profile.intern_frame(Frame {
                file: Some("/a.js".into()),
                source: Some(format!("{name}();").into()),
                ..Frame::new(Kind::Js, name)
            })
        });
        let stack = profile.intern_stack(frames);
        profile.add_sample(Sample {
            count: 1 + (at % 2) as u32,
            ..Sample::new(1000 * at as u64, thread, stack, Mode::JavaScript)
        });
    };
    for &(settled, waiting) in writes {
        for at in written..settled {
            sample(&mut profile, at, "final");
        }
        written = settled;
        let mut others = Profile::new(profile.metadata.clone());
        others.hand_out_samples();
        crate::testing::add_thread(&mut others, 1, 1, "node");
        for at in settled..settled + waiting {
            sample(&mut others, at, "waiting");
        }
        let elapsed = Duration::from_secs(settled as u64);
        writer
            .write_new(&mut profile, Some(&mut others), elapsed)
            .unwrap();
    }
    (writer.finish(&mut profile).unwrap(), profile)
}

/// The innermost functions, by the samples' order.
fn told(profile: &Profile) -> Vec<String> {
    let samples = profile.samples().map(|sample| {
        let sample = sample.unwrap();
        let frame = profile.stack_frames(sample.stack).next().unwrap();
        let frame = profile.frame(frame);
        let source = frame.source.as_deref().unwrap();
        assert_eq!(source, format!("{}();", frame.function));
        assert_eq!(u64::from(sample.count), 1 + sample.time_us / 1000 % 2);
        format!("{}@{}", frame.function, sample.time_us / 1000)
    });
    samples.collect()
}

fn expected(settled: usize, waiting: usize) -> Vec<String> {
    let name = |at| if at < settled { "final" } else { "waiting" };
    let all = 0..settled + waiting;
    all.map(|at| format!("{}{}@{at}", name(at), at % 3))
        .collect()
}

const WRITES: [(usize, usize); 5] = [(0, 4), (2, 7), (2, 9), (11, 0), (15, 3)];

#[test]
fn what_waits_is_there_where_nothing_comes_after_it() {
    let (file, _) = recorded(&WRITES);
    let ends = ends(&file);
    // Two blocks for each write, one where nothing waits, and the end. After
    // the first of two, those that waited before count as far as they have not come.
    let after = [
        (0, 0),
        (0, 4),
        (2, 2),
        (2, 7),
        (2, 7),
        (2, 9),
        (11, 0),
        (15, 0),
        (15, 3),
    ];
    assert_eq!(ends.len(), 1 + after.len() + 1, "{ends:?}");
    for (&end, (settled, waiting)) in ends[1..].iter().zip(after) {
        for cut in [end, end + 5] {
            let recording = read(&file[..cut], true).unwrap();
            assert_eq!(recording.ending, Ending::CutShort, "{cut}");
            assert_eq!(told(&recording.profile), expected(settled, waiting));
        }
        let mut damaged = file[..end].to_vec();
        damaged.extend([0xff; 40]);
        let recording = read(damaged.as_slice(), true).unwrap();
        assert_eq!(recording.ending, Ending::Damaged { at: end as u64 });
        assert_eq!(told(&recording.profile), expected(settled, waiting));
    }
}

#[test]
fn in_a_whole_recording_only_what_is_final_counts() {
    let (file, profile) = recorded(&WRITES);
    let again = whole(&file);
    assert_eq!(told(&again), expected(15, 0));
    assert_eq!(again.sample_count(), profile.sample_count());
    assert_eq!(again.frames(), profile.frames());
}

#[test]
fn who_does_not_know_what_waits_passes_over_it() {
    let (file, _) = recorded(&WRITES);
    let ends = ends(&file);
    // As a kind of block that nobody knows.
    let mut older = file[..ends[0]].to_vec();
    for block in ends.windows(2) {
        let mut rest = &file[block[0]..block[1]];
        match block::read(&mut rest).unwrap() {
            block::Block::Whole(WAITING, payload) => block::write(99, &payload, &mut older),
            block::Block::Whole(kind, payload) => block::write(kind, &payload, &mut older),
            _ => panic!("no block"),
        }
        .unwrap();
    }
    assert_eq!(told(&whole(&older)), expected(15, 0));
    let cut = read(&older[..older.len() - 1], true).unwrap();
    assert_eq!(told(&cut.profile), expected(15, 0));
}

#[test]
fn no_changed_waiting_block_does_harm() {
    let (file, _) = recorded(&WRITES[..2]);
    let (before, waiting) = {
        let ends = ends(&file);
        let mut rest = &file[ends[3]..];
        match block::read(&mut rest).unwrap() {
            block::Block::Whole(WAITING, payload) => (file[..ends[3]].to_vec(), payload),
            _ => panic!("none that waits"),
        }
    };
    let mut random = Random(0x0dd_ba11_5eed);
    let mut more = 0;
    for round in 0..2_000 {
        let mut payload = waiting.clone();
        mutate(&mut payload, &waiting, &mut random);
        let mut file = before.clone();
        block::write(WAITING, &payload, &mut file).unwrap();
        match round % 21 {
            0 => more += u64::from(use_it(&file).is_some_and(|samples| samples > 3)),
            _ => drop(read(file.as_slice(), true)),
        }
    }
    assert!(more > 10, "{more}");
}
