//! `json`: all that was recorded, for programs, and to be read again.
//!
//! One object: what the recording was (`"nodetap": 1` is the version of this form), then
//! `processes`, `threads`, `frames`, `stacks` (lists of indexes of frames, outermost first)
//! and `samples` (microseconds since the start, index of the thread, index of the stack).
//! What the thread of each sample was in is told by `modes`, a string with a letter for each
//! ([`Mode::letter`](crate::Mode::letter)); `counts`, where it is there, by how many samples
//! of the same each stands for. Each entry of these lists stands on a line of its own. Lines and columns count from 1;
//! what is not known is absent. Names are exactly as they were found.

mod read;
mod write;

pub use read::{ReadError, read};
pub use write::write;

/// The version of the form that is written and read here.
const VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{ReadError, read};
    use crate::testing::{bare, deep, empty, hostile, several_processes, small, written};
    use crate::{Format, Frame, Mode, Process, Profile, Sample, StackId, Thread};

    #[test]
    fn a_recording_is_spelled_as_the_contract_says() {
        assert_eq!(
            written(&small(), Format::Json),
            r#"{"nodetap":1,"sampler":"ebpf","rate_hz":999,"start":"2024-05-06T07:08:09.25Z","duration_ms":5000,"lost":1,"truncated":2,"incomplete":3,"processes":[
{"pid":32642,"command":["node","/srv/app.js"],"node":"v24.21.0","v8":"13.6.233.17-node.53"}],"threads":[
{"pid":32642,"tid":32642,"name":"node"},
{"pid":32642,"tid":32650,"name":"node"}],"frames":[
{"kind":"js","function":"main","file":"/srv/app.js","line":2,"column":5,"function_line":1,"function_column":1,"tier":"interpreted","inlined":false},
{"kind":"js","function":"work","file":"/srv/app.js","line":4,"column":5,"function_line":3,"function_column":1,"tier":"optimized","inlined":false},
{"kind":"js","function":"work","file":"/srv/app.js","line":7,"column":3,"function_line":3,"function_column":1,"tier":"interpreted","inlined":false},
{"kind":"native","function":"malloc","file":"/lib/x86_64-linux-gnu/libc.so.6","inlined":false},
{"kind":"js","function":"f","file":"/srv/app.js","line":2,"column":5,"function_line":1,"function_column":1,"tier":"baseline","inlined":false},
{"kind":"js","function":"f","file":"/srv/app.js","line":11,"column":5,"function_line":10,"function_column":1,"tier":"baseline","inlined":false},
{"kind":"pseudo","function":"(garbage collector)","inlined":false}],"stacks":[
[0,1],
[0,2],
[0,1,3],
[0],
[4],
[5],
[4,6],
[]],"samples":[
[0,0,0],
[1000,0,0],
[2000,0,0],
[3000,1,1],
[4000,0,2],
[5000,0,3],
[6000,0,4],
[7000,0,5],
[8000,0,6],
[9000,0,7]]}
"#
        );
    }

    #[test]
    fn a_profile_without_samples_is_whole_too() {
        assert_eq!(
            written(&bare(), Format::Json),
            r#"{"nodetap":1,"sampler":"ebpf","rate_hz":999,"start":"2024-05-06T07:08:09.25Z","duration_ms":5000,"lost":1,"truncated":2,"incomplete":3,"processes":[],"threads":[],"frames":[],"stacks":[],"samples":[]}
"#
        );
    }

    /// All that a profile says, with ids replaced by what they stand for.
    #[derive(Debug, PartialEq)]
    struct Contents<'a> {
        processes: &'a [Process],
        threads: &'a [Thread],
        /// Time, thread, count, mode and frames of each sample.
        samples: Vec<(u64, usize, u32, Mode, Vec<&'a Frame>)>,
    }

    fn contents(profile: &Profile) -> Contents<'_> {
        let sample = |sample: std::io::Result<Sample>| {
            let sample = sample.unwrap();
            let frames = profile.stack_frames(sample.stack);
            let frames = frames.map(|frame| profile.frame(frame)).collect();
            let thread = sample.thread.index();
            (sample.time_us, thread, sample.count, sample.mode, frames)
        };
        Contents {
            processes: profile.processes(),
            threads: profile.threads(),
            samples: profile.samples().map(sample).collect(),
        }
    }

    #[test]
    fn what_was_written_is_read_again() {
        let (unsampled, _) = empty();
        for profile in [
            small(),
            several_processes(),
            hostile(),
            bare(),
            unsampled,
            deep(10_000),
            in_all_modes(),
        ] {
            let json = written(&profile, Format::Json);
            let again = read(json.as_bytes()).unwrap();
            assert_eq!(contents(&again), contents(&profile));
            let mut metadata = profile.metadata.clone();
            metadata.duration = Duration::from_secs(5);
            assert_eq!(again.metadata, metadata);
            assert_eq!(written(&again, Format::Json), json);
        }
    }

    /// A sample in each mode, of which the last one stands for many.
    fn in_all_modes() -> Profile {
        let mut profile = small();
        let Sample { thread, stack, .. } = profile.samples().next().unwrap().unwrap();
        for mode in Mode::ALL {
            profile.add_sample(Sample {
                count: 1 + 99 * u32::from(mode == Mode::Waiting),
                ..Sample::new(10_000, thread, stack, mode)
            });
        }
        profile
    }

    #[test]
    fn what_threads_were_in_and_for_how_long() {
        let profile = in_all_modes();
        assert_eq!(profile.sample_count(), 10 + 5 + 100);
        let json = written(&profile, Format::Json);
        assert!(
            json.ends_with("[10000,0,0]],\"modes\":\"???????????jbnkw\",\"counts\":[\n1,\n1,\n1,\n1,\n1,\n1,\n1,\n1,\n1,\n1,\n1,\n1,\n1,\n1,\n1,\n100]}\n"),
            "{json}"
        );
        let text = written(&profile, Format::Text);
        assert!(text.starts_with("Total samples: 115\n"), "{text}");
        let unknown = json.replace("jbnkw", "jbnkx");
        assert!(matches!(read(unknown.as_bytes()), Err(ReadError::Mode)));
    }

    #[test]
    fn samples_in_a_file_are_written_as_those_in_memory() {
        let (mut short, mut long) = (in_all_modes(), in_all_modes());
        short.limit_sequence(1 << 20, 1 << 20);
        long.limit_sequence(100, 1000);
        for profile in [&mut short, &mut long] {
            let sample = profile.last_sample().unwrap();
            for time_us in 0..5000 {
                profile.add_sample(Sample { time_us, ..sample });
            }
        }
        let json = written(&long, Format::Json);
        assert_eq!(json, written(&short, Format::Json));
        assert_eq!(json.lines().filter(|&it| it == "100,").count(), 5000);
    }

    #[test]
    fn names_are_kept_exactly() {
        let again = read(written(&hostile(), Format::Json).as_bytes()).unwrap();
        assert_eq!(&*again.frames()[0].function, "a\nb 5\n");
        assert_eq!(again.frames()[1].file.as_deref(), Some("\r\u{202e}z"));
        assert_eq!(again.frames().last().unwrap().function.len(), 1 << 20);
    }

    #[test]
    fn equal_frames_of_a_file_become_one() {
        let json = written(&small(), Format::Json)
            .replace(r#""line":7,"column":3"#, r#""line":4,"column":5"#);
        let json = json.replace(
            r#""function_line":3,"function_column":1,"tier":"interpreted""#,
            r#""function_line":3,"function_column":1,"tier":"optimized""#,
        );
        let profile = read(json.as_bytes()).unwrap();
        assert_eq!(profile.frames().len(), 6);
        let stacks = profile.samples().map(|sample| sample.unwrap().stack);
        let stacks: Vec<StackId> = stacks.collect();
        assert_eq!(stacks[0], stacks[3]);
    }

    #[test]
    fn what_is_no_recording_is_refused() {
        let json = written(&small(), Format::Json);
        let error = |json: &str| read(json.as_bytes()).unwrap_err().to_string();
        assert_eq!(
            error("{}"),
            "not a recording of nodetap's: missing field `nodetap` at line 1 column 2"
        );
        assert_eq!(
            error(&json.replace(r#""nodetap":1"#, r#""nodetap":2"#)),
            "not a recording of nodetap's: it has form 2, this version reads form 1 at line 1 column 13"
        );
        assert_eq!(
            error(&json.replace("[9000,0,7]", "[9000,2,7]")),
            "a damaged recording: thread 2 is named, but there are 2"
        );
        assert_eq!(
            error(&json.replace("[9000,0,7]", "[9000,0,8]")),
            "a damaged recording: stack 8 is named, but there are 8"
        );
        assert_eq!(
            error(&json.replace("[0,1,3]", "[0,1,7]")),
            "a damaged recording: frame 7 is named, but there are 7"
        );
        assert!(error(&json.replace(r#""line":7"#, r#""line":0"#)).contains("at line 7 column"));
        assert!(matches!(
            read(&json.as_bytes()[..json.len() / 2]),
            Err(ReadError::Form(_))
        ));
        for garbage in ["", "[]", "null", "\0", "{\"nodetap\":1,\"stacks\":7}"] {
            assert!(read(garbage.as_bytes()).is_err(), "{garbage:?}");
        }
    }

    #[test]
    fn unknown_fields_are_passed_over() {
        let json = written(&small(), Format::Json)
            .replace(r#""lost":1"#, r#""later":{"a":[1]},"lost":1"#)
            .replace(r#""tid":32650"#, r#""tid":32650,"role":"worker""#);
        let again = read(json.as_bytes()).unwrap();
        assert_eq!(contents(&again), contents(&small()));
    }
}
