//! The records that the BPF program and its loader share.
//!
//! Defined here once: `build.rs` turns this file into `shared.h` for
//! `walk.bpf.c`. So: `#[repr(C)]`, plain integers, no padding left implicit.

/// The most frames that one sample can hold, whatever `--max-depth` says.
pub const MAX_FRAMES: u32 = 16384;
/// The most kernel frames that one sample can hold.
pub const MAX_KERNEL_FRAMES: u32 = 128;
/// Words of the stack kept from the stack pointer upwards.
pub const STACK_WORDS: u32 = 64;
/// Bytes kept of the code at a thread's own pc.
pub const CODE_BYTES: u32 = 32;
/// How many of them are before it.
pub const CODE_BEFORE: u32 = 16;
/// Threads and processes that can be watched at once.
pub const MAX_PROCESSES: u32 = 1024;

/// The tick hit the kernel: the registers are those saved on entry to it.
pub const IN_KERNEL: u32 = 1;
/// The stack is deeper than `max_depth`.
pub const TRUNCATED: u32 = 2;
/// The walk ended because a frame could not be read.
pub const UNREADABLE: u32 = 4;
/// The walk ended at a frame pointer that does not lie above the last one.
pub const NOT_ABOVE: u32 = 8;
/// The walk ended at a return address that no code can have.
pub const NOT_CODE: u32 = 16;

/// The code at the thread's own pc could be read.
pub const HAS_CODE: u32 = 32;

/// The sample is of a thread that loses its CPU now.
pub const OFF_CPU: u32 = 1 << 16;
/// It could go on, but others are to have the CPU.
pub const IS_READY: u32 = 1 << 17;
/// It is stopped: by a signal, or by who traces it.
pub const IS_STOPPED: u32 = 1 << 18;
/// Threads that can be without a CPU at once.
pub const MAX_WAITS: u32 = 1 << 15;

/// The walk reached code that says of itself that nobody has called it.
pub const ENDED: u32 = 64;
/// There was code that is in none of the mappings that are known.
pub const MET_NEW_CODE: u32 = 128;

/// A rule for unwinding, of 32 bits (`unwind/rule.rs`). Bits 0 to 3: how to get the
/// canonical frame address. Nothing is known, so by frame pointers.
pub const RULE_NOTHING: u32 = 0;
/// There is no caller.
pub const RULE_END: u32 = 1;
/// The kernel's call of a signal handler.
pub const RULE_SIGNAL: u32 = 2;
/// A stub of a procedure linkage table; bits 13 up: from where it has pushed.
pub const RULE_CFA_PLT: u32 = 3;
/// `rsp` + bits 13 up (signed, in words, as all offsets are)
pub const RULE_CFA_SP: u32 = 4;
/// `rbp` + bits 13 up
pub const RULE_CFA_FP: u32 = 5;
/// The word at `rsp` + bits 13 to 24, + bits 25 up (not signed)
pub const RULE_CFA_DEREF_SP: u32 = 6;
/// The word at `rbp` + bits 13 to 24, + bits 25 up (not signed)
pub const RULE_CFA_DEREF_FP: u32 = 7;
/// Of [`Registers`] that at the place in bits 13 to 17, + bits 18 up
pub const RULE_CFA_REGISTER: u32 = 8;
/// Where the parameter begins.
pub const RULE_PARAMETER_SHIFT: u32 = 13;
/// Bits 4 to 6: where the caller's `rbp` is.
pub const RULE_FP_SHIFT: u32 = 4;
/// Still in `rbp`
pub const RULE_FP_SAME: u32 = 0;
/// At the canonical frame address less bits 7 to 12 (not signed)
pub const RULE_FP_AT_CFA: u32 = 1;
/// At `rbp` + bits 7 to 12
pub const RULE_FP_AT_FP: u32 = 2;
/// At `rsp` + bits 7 to 12
pub const RULE_FP_AT_SP: u32 = 3;
/// Nowhere.
pub const RULE_FP_LOST: u32 = 4;
/// Where the offset of `rbp` begins.
pub const RULE_OFFSET_SHIFT: u32 = 7;
/// Where a signal handler's caller finds `rbp`, `rsp` and `rip` in the `ucontext` that
/// is at its `rsp`: `struct sigcontext` in arch/x86/include/uapi/asm/sigcontext.h.
pub const SIGNAL_FP: u32 = 120;
#[allow(missing_docs)]
pub const SIGNAL_SP: u32 = 160;
#[allow(missing_docs)]
pub const SIGNAL_PC: u32 = 168;

/// Files whose code can be unwound at once.
pub const MAX_TABLES: u32 = 4096;
/// Mappings of code that one process can have; more are not known.
pub const MAX_MAPPINGS: u32 = 2000;

/// From `start` on, up to the next row, `rule` holds.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnwindRow {
    /// An address of a file, less the lowest one of that file.
    pub start: u32,
    /// `RULE_…`
    pub rule: u32,
}

/// Executable memory of a process.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeMapping {
    /// Where it starts.
    pub start: u64,
    /// Where it ends (exclusive).
    pub end: u64,
    /// Where the lowest address of its file is.
    pub base: u64,
    /// The number of the file's table; 0: there is none.
    pub table: u32,
    /// How many rows that has.
    pub rows: u32,
    /// 0: it is of no file, so its code is V8's or another compiler's.
    pub is_file: u64,
}

/// What the walker must know of one process: where V8 keeps what identifies a
/// frame. Offsets are in bytes from the *untagged* start of the object.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessConfig {
    /// Code of the executable that is certainly C++: no V8 frame has its pc
    /// here, so these frames need no look at V8's memory. `start == end` if
    /// not known.
    pub native_start: u64,
    /// End (exclusive) of that range.
    pub native_end: u64,
    /// V8's embedded builtins, which lie inside the range above and are not C++.
    pub builtins_start: u64,
    /// End (exclusive) of the embedded builtins.
    pub builtins_end: u64,
    /// `JSFunction.shared`
    pub function_shared: u32,
    /// `SharedFunctionInfo.script`
    pub shared_script: u32,
    /// `SharedFunctionInfo.function_literal_id` (an int32), before Ignition
    /// `.start_position_and_type`: at least 8 and less than 128 bytes behind
    /// `script`. Where there is neither, the field behind `script`, which is not used.
    pub shared_literal_id: u32,
    /// `SharedFunctionInfo.name_or_scope_info`, where the `ScopeInfo` there tells
    /// which function it is; less than 128 bytes before the end of the last; 0: it
    /// does not.
    pub shared_scope_info: u32,
    /// In that `ScopeInfo`: the flags, a Smi; the count of parameters, that of the
    /// context's locals and the variable part follow.
    pub scope_info_flags: u32,
    /// Its flags: that a slot, of two, has the function's variable.
    pub scope_info_function_variable: u32,
    /// That a slot has the inferred name.
    pub scope_info_inferred_name: u32,
    /// The lowest bit of the function's kind, of five.
    pub scope_info_kind_shift: u32,
    /// Before Ignition `SharedFunctionInfo.code`: less than 128 bytes before the end
    /// of the last; 0: there is none.
    pub shared_code: u32,
    /// `Script.id` (a Smi)
    pub script_id: u32,
    /// How far below its frame pointer an interpreted frame has its
    /// `BytecodeArray`, in bytes: 24 or 32.
    pub frame_bytecode_array: u32,
    /// Likewise its bytecode offset: 32 or 40.
    pub frame_bytecode_offset: u32,
    /// `DebugInfo.script`, where a `DebugInfo` may stand for a function's script;
    /// 0: it never does.
    pub debug_info_script: u32,
    /// The most frames to take, at most [`MAX_FRAMES`].
    pub max_depth: u32,
    /// 0: only native frames are wanted (not a V8 process, or an unknown one).
    pub has_v8: u32,
    /// Where C++ keeps no frame pointers: how far below its frame pointer V8's frame
    /// for calls from C++ has that of the frame that called C++; 0: C++ keeps them.
    pub entry_caller: u32,
    /// How many mappings of its code are known.
    pub code_mappings: u64,
    /// Tells what is known of them from what was known before, of any process; 0:
    /// nothing is known.
    pub code_generation: u64,
}

/// The general registers of the thread, in user mode.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// Instruction pointer
    pub rip: u64,
    /// Stack pointer
    pub rsp: u64,
    /// Frame pointer
    pub rbp: u64,
    #[allow(missing_docs)]
    pub rax: u64,
    #[allow(missing_docs)]
    pub rbx: u64,
    #[allow(missing_docs)]
    pub rcx: u64,
    #[allow(missing_docs)]
    pub rdx: u64,
    #[allow(missing_docs)]
    pub rsi: u64,
    #[allow(missing_docs)]
    pub rdi: u64,
    #[allow(missing_docs)]
    pub r8: u64,
    #[allow(missing_docs)]
    pub r9: u64,
    #[allow(missing_docs)]
    pub r10: u64,
    #[allow(missing_docs)]
    pub r11: u64,
    #[allow(missing_docs)]
    pub r12: u64,
    #[allow(missing_docs)]
    pub r13: u64,
    #[allow(missing_docs)]
    pub r14: u64,
    #[allow(missing_docs)]
    pub r15: u64,
}

/// One frame of the frame-pointer chain, innermost first.
///
/// What stands in the frame (`context` to `bytecode_offset`) is read of every
/// frame; a word is 0 where that is not possible, and where it is not the
/// frame's: below the stack pointer, or in its callee's frame. What identifies a function
/// (`shared` to `literal_id`) is read where the words at `fp - 8` and `fp - 16`
/// carry heap-object tags and the pc is outside the native range; of the first
/// frame wherever its pc is, as in a frameless C++ function `fp` is that of the
/// JavaScript frame that called it. Whether it *is* a JavaScript frame is
/// decided in user space, by its pc.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FrameRecord {
    /// Where it executes: `rip` for the first frame, else a return address.
    pub pc: u64,
    /// Its frame pointer.
    pub fp: u64,
    /// The word at `fp - 8`: a context (tagged) or a frame type marker.
    pub context: u64,
    /// The word at `fp - 16`: in a JavaScript frame its `JSFunction`, tagged.
    pub function: u64,
    /// In an interpreted frame its `BytecodeArray`: the word that
    /// [`ProcessConfig::frame_bytecode_array`] tells. Before Ignition
    /// `SharedFunctionInfo.code`, where that was read.
    pub bytecode_array: u64,
    /// In an interpreted frame its bytecode offset, a Smi: the word that
    /// [`ProcessConfig::frame_bytecode_offset`] tells.
    pub bytecode_offset: u64,
    /// `JSFunction.shared`, tagged; 0: not read or not readable.
    pub shared: u64,
    /// `SharedFunctionInfo.script`, tagged; 0: not read or not readable. Not
    /// always a `Script`: `undefined` in V8's own functions. Where a `DebugInfo`
    /// stands for it, because a debugger deals with the function, the script is
    /// that one's.
    pub script: u64,
    /// `Script.id`; 0: not read, not readable or no Smi (V8's ids start at 1).
    pub script_id: u32,
    /// What tells the script's functions apart
    /// ([`ProcessConfig::shared_literal_id`], [`ProcessConfig::shared_scope_info`]);
    /// meaningless where `script` is 0.
    pub literal_id: u32,
}

/// What precedes a sample in the ring buffer. After it come `frame_count`
/// [`FrameRecord`]s, then `kernel_count` kernel pcs (innermost first, `u64`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleHeader {
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    pub time_ns: u64,
    /// Process and thread, as the nodetap process's PID namespace numbers them.
    pub pid: u32,
    #[allow(missing_docs)]
    pub tid: u32,
    /// `IN_KERNEL`, `TRUNCATED`, …
    pub flags: u32,
    #[allow(missing_docs)]
    pub frame_count: u32,
    #[allow(missing_docs)]
    pub kernel_count: u32,
    /// How many of `stack` could be read.
    pub stack_count: u32,
    /// Of a thread that loses its CPU: what its waits are known by.
    pub wait_key: u32,
    /// Likewise, the number of the system call that it is in; negative: in none.
    pub system_call: i32,
    #[allow(missing_docs)]
    pub registers: Registers,
    /// The code from [`CODE_BEFORE`] bytes before `rip` on, where the flags say
    /// `HAS_CODE`: of V8's that was compiled while it ran, which may be gone or
    /// replaced when it is looked for.
    pub code: [u8; CODE_BYTES as usize],
    /// The words from the stack pointer upwards.
    pub stack: [u64; STACK_WORDS as usize],
}

/// Sent when a thread that lost its CPU has one again.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitEnd {
    /// When it lost it: [`SampleHeader::time_ns`] of its sample.
    pub since_ns: u64,
    /// When it got one, by the same clock.
    pub time_ns: u64,
    /// [`SampleHeader::wait_key`]
    pub wait_key: u32,
    #[allow(missing_docs)]
    pub zero: u32,
}
