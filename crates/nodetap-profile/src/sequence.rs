//! The samples one after the other: as a few bytes each, and beyond some megabytes in a
//! file, so that memory does not grow with time.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::numbers::{after_step, encode, encode_step};
use crate::{Mode, Sample, StackId, ThreadId};

/// So many bytes stay in memory before they are written out.
const IN_MEMORY: usize = 4 << 20;
/// The same where nothing can be written. Samples that have no room there either are not
/// kept.
const IN_MEMORY_WITHOUT_FILE: usize = 64 << 20;

/// Samples in the order in which they were added.
#[derive(Debug)]
pub(crate) struct Sequence {
    /// Where the file is made when it is needed.
    directory: PathBuf,
    written: Written,
    /// What comes after that.
    tail: Vec<u8>,
    last: Option<Sample>,
    len: u64,
    /// How much stays in memory: with a file, and without.
    limits: (usize, usize),
}

/// What has been written out.
#[derive(Debug, Default)]
enum Written {
    #[default]
    Nothing,
    /// To a file without a name, which is gone with us.
    File { file: File, bytes: u64 },
    /// Nothing more can be; up to here it could.
    Stopped {
        file: Option<(File, u64)>,
        error: io::Error,
    },
}

impl Sequence {
    /// No samples yet.
    pub(crate) fn new() -> Self {
        Self {
            directory: std::env::temp_dir(),
            written: Written::default(),
            tail: Vec::new(),
            last: None,
            len: 0,
            limits: (IN_MEMORY, IN_MEMORY_WITHOUT_FILE),
        }
    }

    /// What has no room in memory is to be written to a file in `directory`.
    pub(crate) fn write_out_to(&mut self, directory: &Path) {
        self.directory = directory.to_owned();
    }

    /// Where that file is made.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// How much is to stay in memory, with a file and without.
    #[cfg(test)]
    pub(crate) fn limit(&mut self, with_file: usize, without: usize) {
        self.limits = (with_file, without);
    }

    /// Adds a sample; `false`: there is no room for it.
    pub(crate) fn push(&mut self, sample: Sample) -> bool {
        if self.tail.len() >= self.limits.0 && !matches!(self.written, Written::Stopped { .. }) {
            self.write_out();
        }
        if self.tail.len() >= self.limits.1 {
            return false;
        }
        let before = self.last.map_or(0, |last| last.time_us);
        encode_sample(&mut self.tail, sample, before);
        self.last = Some(sample);
        self.len += 1;
        true
    }

    pub(crate) fn last(&self) -> Option<Sample> {
        self.last
    }

    /// Why nothing could be written out any more, and where to, if that is so.
    pub(crate) fn error(&self) -> Option<(&Path, &io::Error)> {
        match &self.written {
            Written::Stopped { error, .. } => Some((&self.directory, error)),
            _ => None,
        }
    }

    /// The samples, as far as they can be read again.
    pub(crate) fn iter(&self) -> impl Iterator<Item = io::Result<Sample>> + '_ {
        let file = match &self.written {
            Written::File { file, bytes } => Some((file, *bytes)),
            Written::Stopped { file, .. } => file.as_ref().map(|(file, bytes)| (file, *bytes)),
            Written::Nothing => None,
        };
        let written = file.map(|(file, bytes)| Reader { file, at: 0, bytes });
        let written = BufReader::with_capacity(64 << 10, Part(written));
        let mut input = written.chain(self.tail.as_slice());
        let mut left = self.len;
        let mut time = 0;
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let sample = decode(&mut input, time);
            match &sample {
                Ok(sample) => time = sample.time_us,
                Err(_) => left = 0,
            }
            Some(sample)
        })
    }

    /// Moves what is in memory to the file.
    fn write_out(&mut self) {
        let (file, bytes) = match std::mem::take(&mut self.written) {
            Written::File { file, bytes } => (Some(file), bytes),
            Written::Stopped { .. } | Written::Nothing => (None, 0),
        };
        let file = match file {
            Some(file) => Ok(file),
            None => tempfile::tempfile_in(&self.directory),
        };
        self.written = match file {
            // Where the file is left half written, its end is not looked at.
            Ok(file) => match file.write_all_at(&self.tail, bytes) {
                Ok(()) => {
                    let bytes = bytes + self.tail.len() as u64;
                    self.tail.clear();
                    Written::File { file, bytes }
                }
                Err(error) => Written::Stopped {
                    file: Some((file, bytes)),
                    error,
                },
            },
            Err(error) => Written::Stopped { file: None, error },
        };
    }
}

/// The part of a file that has been written, from its start.
struct Reader<'a> {
    file: &'a File,
    at: u64,
    bytes: u64,
}

/// A part of a file, if there is one.
struct Part<'a>(Option<Reader<'a>>);

impl Read for Part<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let Some(reader) = &mut self.0 else {
            return Ok(0);
        };
        let left = usize::try_from(reader.bytes - reader.at).unwrap_or(usize::MAX);
        let room = to.len().min(left);
        let read = reader.file.read_at(&mut to[..room], reader.at)?;
        if read == 0 && room > 0 {
            // Never the rest of the samples with these left out.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        reader.at += read as u64;
        Ok(read)
    }
}

/// The lowest bit of a sample's first byte: it stands for one. Above it stands the mode.
const ONE: u8 = 1;

/// A byte that tells mode and whether a count follows; the time since the sample before,
/// which may be negative; thread, stack, and that count.
fn encode_sample(to: &mut Vec<u8>, sample: Sample, before: u64) {
    let is_one = sample.count == 1;
    to.push((sample.mode as u8) << 1 | if is_one { ONE } else { 0 });
    encode_step(to, before, sample.time_us);
    encode(to, sample.thread.number().into());
    encode(to, sample.stack.number().into());
    if !is_one {
        encode(to, sample.count.into());
    }
}

fn decode(from: &mut impl BufRead, before: u64) -> io::Result<Sample> {
    let mut head = [0];
    from.read_exact(&mut head)?;
    let mode = Mode::ALL.get(usize::from(head[0] >> 1));
    let step = decode_number(from)?;
    let mut sample = Sample::new(
        after_step(before, step),
        ThreadId::from_number(decode_id(from)?),
        StackId::from_number(decode_id(from)?),
        *mode.ok_or(io::ErrorKind::InvalidData)?,
    );
    if head[0] & ONE == 0 {
        sample.count = decode_id(from)?;
    }
    Ok(sample)
}

/// What [`encode`] wrote.
fn decode_number(from: &mut impl BufRead) -> io::Result<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let mut byte = [0];
        from.read_exact(&mut byte)?;
        number |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

fn decode_id(from: &mut impl BufRead) -> io::Result<u32> {
    u32::try_from(decode_number(from)?).map_err(|_| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    /// Samples of all kinds, not all in the order of their times.
    fn samples(count: u32) -> Vec<Sample> {
        let sample = |at: u32| Sample {
            count: if at.is_multiple_of(7) { at } else { 1 },
            ..Sample::new(
                match at % 5 {
                    0 => u64::from(at) << 40,
                    1 => 0,
                    2 => u64::MAX,
                    _ => 1001 * u64::from(at),
                },
                ThreadId::from_number(at % 300),
                StackId::from_number(at.wrapping_mul(0x9e37_79b9)),
                Mode::ALL[at as usize % Mode::ALL.len()],
            )
        };
        (0..count).map(sample).collect()
    }

    fn read(sequence: &Sequence) -> Vec<Sample> {
        sequence.iter().map(|sample| sample.unwrap()).collect()
    }

    fn filled(mut sequence: Sequence, samples: &[Sample]) -> Sequence {
        for (index, &sample) in samples.iter().enumerate() {
            assert!(sequence.push(sample), "{index}");
        }
        sequence
    }

    #[test]
    fn modes_are_numbered_in_their_order() {
        for (number, mode) in Mode::ALL.into_iter().enumerate() {
            assert_eq!(mode as usize, number);
        }
    }

    #[test]
    fn what_is_in_memory_and_what_is_not_comes_back_in_its_order() {
        let all = samples(10_000);
        for limit in [1, 1000, 100_000, IN_MEMORY] {
            let mut sequence = Sequence::new();
            sequence.limit(limit, 2 * limit);
            let sequence = filled(sequence, &all);
            assert_eq!(read(&sequence), all);
            assert_eq!(read(&sequence), all, "and again");
            assert_eq!(sequence.last(), all.last().copied());
            assert!(sequence.error().is_none());
            assert!(sequence.tail.len() < limit + 40);
            assert_eq!(
                matches!(sequence.written, Written::File { .. }),
                limit < IN_MEMORY
            );
        }
    }

    #[test]
    fn the_file_has_no_name() {
        let directory = tempfile::tempdir().unwrap();
        let mut sequence = Sequence::new();
        sequence.write_out_to(directory.path());
        sequence.limit(1000, 2000);
        let sequence = filled(sequence, &samples(1000));
        assert!(matches!(sequence.written, Written::File { .. }));
        assert_eq!(directory.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn where_no_file_can_be_made_memory_has_to_do() {
        let all = samples(10_000);
        let mut sequence = Sequence::new();
        sequence.write_out_to(Path::new("/nonexistent"));
        sequence.limit(1000, 50_000);
        let kept = all.iter().take_while(|&&it| sequence.push(it)).count();
        assert!((1000..10_000).contains(&kept), "{kept}");
        assert!(!sequence.push(all[kept]));
        assert_eq!(read(&sequence), all[..kept]);
        let (path, error) = sequence.error().unwrap();
        assert_eq!(path, Path::new("/nonexistent"));
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn where_the_disk_is_full_what_was_written_is_kept() {
        let all = samples(10_000);
        let mut sequence = Sequence::new();
        sequence.limit(1000, 20_000);
        let (first, rest) = all.split_at(5000);
        let mut sequence = filled(sequence, first);
        // From here on every write fails, and what went to the file before is there.
        let Written::File { file, .. } = &mut sequence.written else {
            panic!("{sequence:?}");
        };
        *file = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
        let kept = rest.iter().take_while(|&&it| sequence.push(it)).count();
        assert!((100..5000).contains(&kept), "{kept}");
        assert!(sequence.error().is_some());
        assert_eq!(read(&sequence), all[..5000 + kept]);
    }

    #[test]
    fn a_file_that_lost_its_end_is_an_error() {
        let all = samples(5000);
        let mut sequence = Sequence::new();
        sequence.limit(1000, 2000);
        let sequence = filled(sequence, &all);
        let Written::File { file, bytes } = &sequence.written else {
            panic!("{sequence:?}");
        };
        file.set_len(bytes / 2).unwrap();
        let read: Vec<io::Result<Sample>> = sequence.iter().collect();
        let (error, whole) = read.split_last().unwrap();
        assert!(error.is_err());
        assert!(whole.len() < 5000);
        for (sample, expected) in whole.iter().zip(&all) {
            assert_eq!(sample.as_ref().unwrap(), expected);
        }
    }
}
