//! One function of `.eh_frame`: its rules, in the order of its instructions.

use gimli::{
    BaseAddresses, CallFrameInstruction, EhFrame, FrameDescriptionEntry, LittleEndian,
    PartialFrameDescriptionEntry, UnwindSection,
};
use rustc_hash::FxHashMap;

use super::program::{Cie, State};
use super::rule::Rule;

pub(super) type Slice<'a> = gimli::EndianSlice<'a, LittleEndian>;

/// A file's `.eh_frame`.
pub(super) struct Section<'a> {
    pub bytes: &'a [u8],
    pub frames: EhFrame<Slice<'a>>,
    pub bases: BaseAddresses,
    /// What addresses are counted from: the lowest one of the file.
    pub base: u64,
}

/// What functions have in common, by where it stands.
pub(super) type Cies<'a> = FxHashMap<usize, (Cie<'a>, Option<State>)>;

/// A function, and what holds where it begins.
pub(super) struct Function<'a> {
    fde: FrameDescriptionEntry<Slice<'a>>,
    initial: State,
}

impl<'a> Section<'a> {
    /// Of these bytes.
    pub fn new(bytes: &'a [u8], bases: BaseAddresses, base: u64) -> Section<'a> {
        let mut frames = EhFrame::new(bytes, LittleEndian);
        frames.set_address_size(8);
        Section {
            bytes,
            frames,
            bases,
            base,
        }
    }

    /// The function that `partial` is about; `None` where it is damaged, or where the
    /// linker has thrown it out (then it is at 0).
    pub fn function(
        &self,
        partial: &PartialFrameDescriptionEntry<'_, EhFrame<Slice<'a>>, Slice<'a>>,
        cies: &mut Cies<'a>,
    ) -> Option<Function<'a>> {
        let mut initial = None;
        let fde = partial.parse(|section, bases, offset| {
            let (cie, state) = match cies.get(&offset.0) {
                Some(known) => known,
                None => {
                    let cie = section.cie_from_offset(bases, offset)?;
                    let state = State::initial(&cie, section, bases);
                    cies.entry(offset.0).or_insert((cie, state))
                }
            };
            initial = state.clone();
            Ok(cie.clone())
        });
        let fde = fde.ok().filter(|fde| fde.initial_address() != 0)?;
        Some(Function {
            fde,
            initial: initial?,
        })
    }

    /// Hands out the function's rules, each with where it begins to hold and where the
    /// next one does. Returns where the function begins and where what is known of it
    /// ends: before its own end where it is damaged.
    pub fn run(
        &self,
        function: &Function<'_>,
        mut sink: impl FnMut(u32, u32, Rule),
    ) -> Option<(u32, u32)> {
        let Function { fde, initial } = function;
        let start = self.offset(fde.initial_address())?;
        let last = self.offset(fde.end_address())?;
        let is_signal = fde.is_signal_trampoline();
        let factor = fde.cie().code_alignment_factor();
        let mut at = start;
        let mut state = initial.clone();
        let mut kept = Vec::new();
        let mut instructions = fde.instructions(&self.frames, &self.bases);
        let end = loop {
            let next = match instructions.next() {
                Ok(Some(CallFrameInstruction::AdvanceLoc { delta })) => {
                    let delta = u64::from(delta).checked_mul(factor)?;
                    u64::from(at).checked_add(delta)
                }
                Ok(Some(CallFrameInstruction::SetLoc { address })) => {
                    self.offset(address).map(u64::from)
                }
                Ok(Some(instruction)) => {
                    match state.execute(&instruction, initial, &mut kept, fde.cie()) {
                        Some(()) => continue,
                        None => break at,
                    }
                }
                Ok(None) => None,
                Err(_) => break at,
            };
            let next = next.unwrap_or(last.into()).min(last.into()) as u32;
            if next < at {
                break at;
            }
            if next > at {
                sink(at, next, state.rule(&self.frames, is_signal));
            }
            at = next;
            if at == last {
                break at;
            }
        };
        Some((start, end))
    }

    fn offset(&self, address: u64) -> Option<u32> {
        u32::try_from(address.checked_sub(self.base)?).ok()
    }
}
