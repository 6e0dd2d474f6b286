//! Unwinding native code: the tables made of `.eh_frame` against `framehop`, which runs
//! its programs anew for every address; the walk in the kernel, on programs without frame
//! pointers whose calls are known.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{ExplicitModuleSectionInfo, FrameAddress, Module, Unwinder};
use nodetap_sampler::ebpf::{EbpfSampler, Options};
use nodetap_sampler::raw::{RawSample, RawSampleRef};
use nodetap_sampler::unwind::rule::SavedFp;
use nodetap_sampler::unwind::{Cursor, Rule, Step, Table};
use object::{Object, ObjectSection, ObjectSegment};
use support::{Program, Target, native, one_at_a_time};

const SP: u64 = 0x7000_0000_0000;
const FP: u64 = SP + 0x400;

/// What stands on a stack that holds something else everywhere.
fn word(address: u64) -> u64 {
    let mixed = (address ^ 0x1234_5678).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 18) & 0x3fff_ffff_fff8 | 8
}

/// Another unwinder's word on the files that this one reads.
struct Reference {
    unwinder: UnwinderX86_64<Vec<u8>>,
    cache: CacheX86_64,
}

impl Reference {
    fn of_file(bytes: &[u8]) -> Reference {
        let elf = object::File::parse(bytes).expect("an ELF file");
        let section = |name| {
            let section = elf.section_by_name(name)?;
            let start = section.address();
            let data = section.data().ok()?.to_vec();
            Some((data, start..start + section.size()))
        };
        let (eh_frame, eh_frame_svma) = section(".eh_frame").expect(".eh_frame");
        let (eh_frame_hdr, eh_frame_hdr_svma) = section(".eh_frame_hdr").expect(".eh_frame_hdr");
        let ends = elf.segments().map(|it| it.address() + it.size());
        let module = Module::new(
            String::new(),
            0..ends.max().expect("segments"),
            0,
            ExplicitModuleSectionInfo {
                base_svma: 0,
                text_svma: section(".text").map(|(_, range)| range),
                got_svma: section(".got").map(|(_, range)| range),
                eh_frame: Some(eh_frame),
                eh_frame_svma: Some(eh_frame_svma),
                eh_frame_hdr: Some(eh_frame_hdr),
                eh_frame_hdr_svma: Some(eh_frame_hdr_svma),
                ..ExplicitModuleSectionInfo::default()
            },
        );
        let mut unwinder = UnwinderX86_64::new();
        unwinder.add_module(module);
        Reference {
            unwinder,
            cache: CacheX86_64::new(),
        }
    }

    /// The caller of a frame that is at `pc`, in a call; `None`: it has none.
    fn caller(&mut self, pc: u64) -> Result<Option<Cursor>, framehop::Error> {
        let address = FrameAddress::from_return_address(pc + 1).expect("not 0");
        let mut registers = UnwindRegsX86_64::new(pc, SP, FP);
        let mut read = |address| Ok(word(address));
        let found =
            self.unwinder
                .unwind_frame(address, &mut registers, &mut self.cache, &mut read)?;
        Ok(found.map(|pc| Cursor {
            pc,
            sp: registers.sp(),
            fp: registers.bp(),
        }))
    }
}

/// By frame pointers.
fn by_frame_pointer() -> Cursor {
    Cursor {
        pc: word(FP + 8),
        sp: FP + 16,
        fp: word(FP),
    }
}

fn compare(path: &Path) {
    let bytes = std::fs::read(path).expect("a file");
    let begun = Instant::now();
    let table = Table::of_file(&bytes);
    let name = path.display();
    eprintln!(
        "{name}: {} rows, {} KiB, {:?}",
        table.rows.len(),
        table.rows.len() * 8 / 1024,
        begun.elapsed()
    );
    assert!(table.rows.len() > 10, "{name}");
    assert!(table.rows.is_sorted_by(|a, b| a.start < b.start), "{name}");
    assert!(table.rows.windows(2).all(|it| it[0].rule != it[1].rule));
    let mut reference = Reference::of_file(&bytes);
    let [mut same, mut known, mut more] = [0, 0, 0];
    // Where rules begin and end, and somewhere between.
    for (index, row) in table.rows.iter().enumerate() {
        if table.rows.len() > 50_000 && index % 7 != 0 {
            continue;
        }
        let start = table.base + u64::from(row.start);
        let next = table.rows.get(index + 1);
        let end = next.map_or(start + 1, |next| table.base + u64::from(next.start));
        for pc in [start, start + (end - start) / 2, end - 1] {
            assert_eq!(table.rule(pc), row.rule, "{name} at {pc:#x}");
            let at = Cursor { pc, sp: SP, fp: FP };
            let ours = row.rule.apply(at, None, &mut |address| Some(word(address)));
            let theirs = reference.caller(pc);
            known += 1;
            let agrees = match (ours, theirs) {
                (Step::Caller(ours), Ok(Some(theirs))) => {
                    let lost = row.rule.saved_fp() == SavedFp::Lost;
                    (ours.pc, ours.sp) == (theirs.pc, theirs.sp) && (lost || ours.fp == theirs.fp)
                        // It reads no memory for it, and falls back.
                        || row.rule.is_beyond_registers() && theirs == by_frame_pointer()
                }
                (Step::End, Ok(None)) => true,
                (Step::Nothing, Ok(Some(theirs))) => {
                    more += u64::from(theirs != by_frame_pointer());
                    true
                }
                (Step::Interrupted(_) | Step::Broken, Ok(Some(theirs))) => {
                    row.rule.is_beyond_registers() && theirs == by_frame_pointer()
                }
                (Step::Broken, Err(_)) => true,
                _ => false,
            };
            assert!(
                agrees,
                "{name} at {pc:#x}: {:?} {ours:x?}, {theirs:x?}",
                row.rule
            );
            same += u64::from(!matches!(ours, Step::Nothing));
        }
    }
    // `vfork` has its return address in a register, and the like.
    assert!(more <= 10 + known / 10_000, "{name}: {more} of {known}");
    assert!(same * 10 > known * 4, "{name}: {same} of {known}");
}

#[test]
fn every_rule_is_that_of_another_unwinder() {
    let versions = ["0.10.48", "12.22.12", "20.20.2", "24.21.0", "26.10.0"];
    let mut files: Vec<PathBuf> = versions.map(support::node).into();
    let libraries = Path::new("/usr/lib/x86_64-linux-gnu");
    for name in [
        "libc.so.6",
        "libm.so.6",
        "libstdc++.so.6",
        "libgcc_s.so.1",
        "libcrypto.so.3",
        "libz.so.1",
        "libnode.so.108",
    ] {
        files.extend([libraries.join(name)].into_iter().filter(|it| it.exists()));
    }
    files.push(std::env::current_exe().expect("this test"));
    for file in &files {
        compare(file);
    }
}

#[test]
fn what_is_no_file_has_no_rules() {
    assert_eq!(Table::of_file(b""), Table::default());
    assert_eq!(Table::of_file(&[0x7f; 4096]), Table::default());
    assert_eq!(Table::default().rule(0x1000), Rule::NOTHING);
}

/// What each kind of stack of the program is, innermost first.
const FRAMELESS: [(&str, &[&str]); 8] = [
    ("plain", &["spin", "main"]),
    ("aligned", &["spin", "aligned", "main"]),
    ("variable", &["spin", "variable", "main"]),
    ("large", &["spin", "large", "main"]),
    ("sorted", &["spin", "compare", "sorted", "main"]),
    ("signalled", &["spin", "handler", "signalled", "main"]),
    ("interrupted", &["spin", "handler", "interrupted", "main"]),
    ("deep", &["spin", "deep", "main"]),
];

/// At least so many samples of `target`, from the first one on that shows that the tables
/// are there, that of the C library too.
fn complete_from_the_first(target: &Target, count: usize) -> Vec<RawSample> {
    let in_library = |sample: &RawSample| sample.registers.rip > 0x7000_0000_0000;
    let mut sampler = EbpfSampler::start(&Options::with_rate(4999), &[(target.pid(), native(512))])
        .unwrap_or_else(|error| panic!("these tests need root and eBPF: {error}"));
    let mut samples: Vec<RawSample> = Vec::new();
    let end = Instant::now() + Duration::from_secs(20);
    while samples.len() < count && Instant::now() < end {
        let mut keep = |sample: RawSampleRef<'_>| {
            let sample = sample.to_owned();
            if !samples.is_empty() || sample.complete && in_library(&sample) {
                samples.push(sample);
            }
        };
        sampler
            .poll(Duration::from_millis(20), &mut keep)
            .expect("poll");
    }
    samples
}

#[test]
fn code_without_frame_pointers() {
    let options = ["-O3", "-fomit-frame-pointer", "-fno-optimize-sibling-calls"];
    let program = Program::compile_with("frameless", &options);
    let _alone = one_at_a_time();
    for (kind, expected) in FRAMELESS {
        let (target, _) = Target::start(Command::new(&program.path).arg(kind));
        let samples = complete_from_the_first(&target, 500);
        assert!(samples.len() > 100, "{kind}: {} complete", samples.len());
        let mut leaves = std::collections::BTreeSet::new();
        for sample in &samples {
            let mut chain = program.chain(sample).unwrap_or_default();
            // Of the C library.
            chain.retain(|function| !function.is_empty());
            let leaf = chain.first().copied().unwrap_or_default();
            leaves.insert(leaf);
            // The stub through which it calls the C library has no name, or is called
            // like what it leads to.
            chain.retain(|&function| function != "step");
            chain.dedup();
            assert!(sample.complete, "{kind}: {chain:?} {sample:x?}");
            assert_eq!(chain, expected, "{kind}: {sample:x?}");
            let deep = sample.frames.len() > 200;
            assert_eq!(deep, kind == "deep", "{kind}: {}", sample.frames.len());
        }
        assert!(leaves.contains("step"), "{kind}: {leaves:?}");
    }
}
