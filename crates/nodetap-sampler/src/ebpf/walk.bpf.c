/* Takes the stack of the thread that a CPU-clock tick interrupted, if it
 * belongs to a watched process: V8's code by the chain of frame pointers, native
 * code by what its file tells, and for frames that may be V8's the words that
 * identify their function. */
#include "helpers.h"
#include "shared.h"

/* The most frames of a sample: a power of two, at most MAX_FRAMES. */
#ifndef FRAMES
#define FRAMES MAX_FRAMES
#endif
/* Remembered within one sample, while the thread stands still. */
#define SEEN_FUNCTIONS 16
#define SEEN_SCRIPTS 4
/* Remembered from sample to sample. */
#define SEEN_RULES 1024
/* From SharedFunctionInfo.script, before Ignition from .code, where there is no
 * function_literal_id from .name_or_scope_info, to the last field that is read:
 * less than so many bytes (a power of two) in every V8. */
#define SHARED_WINDOW 128
/* The stack is read in pieces of this size (a power of two) and walked inside. */
#define WINDOW 1024
/* What is read of a frame: the words from fp - 48 up to its return address. */
#define FRAME_BELOW 48
#define FRAME_BYTES 64
#define PAGE 4096
/* User addresses end here (TASK_SIZE_MAX with four-level page tables). */
#define USER_END 0x7ffffffff000ULL
/* No code lies in the first page. */
#define USER_START 0x1000ULL

/* Set by the loader before the program is loaded. */
const volatile uint32_t want_kernel = 0;
/* The kernel has bpf_loop (since 5.17). */
const volatile uint32_t has_loop = 0;
/* The reader's PID namespace, by its inode number; 0: the initial one. */
const volatile uint32_t pid_namespace = 0;
/* The reader is woken when so many bytes wait for it. */
const volatile uint64_t wake_bytes = 1 << 20;

struct {
    MAP_UINT(type, MAP_HASH);
    MAP_TYPE(key, uint32_t);
    MAP_TYPE(value, struct ProcessConfig);
    MAP_UINT(max_entries, MAX_PROCESSES);
} processes SECTION(".maps");

struct {
    MAP_UINT(type, MAP_RINGBUF);
    MAP_UINT(max_entries, 1 << 23);
} samples SECTION(".maps");

/* Samples that could not be delivered: nearly always, the ring buffer was full. */
struct {
    MAP_UINT(type, MAP_PERCPU_ARRAY);
    MAP_TYPE(key, uint32_t);
    MAP_TYPE(value, uint64_t);
    MAP_UINT(max_entries, 1);
} lost SECTION(".maps");

struct seen_function {
    uint64_t sample;
    uint64_t function;
    uint64_t shared;
    uint64_t script;
    uint64_t code;
    uint32_t script_id;
    uint32_t literal_id;
};

struct seen_script {
    uint64_t sample;
    uint64_t script;
    uint64_t script_id;
};

/* How the caller of the code at `pc` is found, for a process's code as it was. */
struct seen_rule {
    uint64_t pc;
    uint64_t generation;
    uint64_t rule;
};

/* Where a walk is. It is kept in a map, of which the verifier does not try to know
 * what is in it: else every path through one frame would be another one through the
 * next. */
struct state {
    uint64_t pc;
    uint64_t fp;
    /* Known where native code is unwound. */
    uint64_t sp;
    /* What belongs to the frame lies above this: the stack pointer, then the
     * callee's return address. */
    uint64_t below;
    /* What the frame that was unwound has for a frame pointer. */
    uint64_t frame_fp;
    /* What of the stack is in the scratch's window. */
    uint64_t window_start;
    uint64_t window_end;
    /* Of the process's configuration what unwinding needs. */
    uint64_t builtins_start;
    uint64_t builtins_end;
    uint64_t code_mappings;
    uint64_t code_generation;
    uint32_t count;
    uint32_t flags;
    /* How the caller is found; see unwind.h. */
    uint32_t rule;
    uint32_t unused;
};

struct scratch {
    /* The sample under construction, contiguous as it is sent: the kernel's
     * pcs follow the frames that there are, so `tail` is their room when there
     * are FRAMES. */
    struct SampleHeader header;
    struct FrameRecord frames[FRAMES];
    uint64_t tail[MAX_KERNEL_FRAMES];

    /* Counts samples; tells this sample's entries of the caches from old ones. */
    uint64_t sample;
    struct state now;
    struct seen_function functions[SEEN_FUNCTIONS];
    struct seen_script scripts[SEEN_SCRIPTS];
    uint8_t shared_bytes[SHARED_WINDOW + 8];
    uint64_t window[(WINDOW + FRAME_BYTES) / 8];
    struct seen_rule rules[SEEN_RULES];
};

/* One entry a CPU. (Values of a real per-CPU array cannot be so large.) */
struct {
    MAP_UINT(type, MAP_ARRAY);
    MAP_TYPE(key, uint32_t);
    MAP_TYPE(value, struct scratch);
    MAP_UINT(max_entries, 1);
} scratches SECTION(".maps");

/* Without bpf_loop the walk goes round once for every entry of this map. */
struct {
    MAP_UINT(type, MAP_ARRAY);
    MAP_TYPE(key, uint32_t);
    MAP_TYPE(value, uint64_t);
    MAP_UINT(max_entries, FRAMES + 1);
} turns SECTION(".maps");

struct walk {
    struct scratch *scratch;
    struct ProcessConfig *config;
    /* The scratch's key. */
    uint32_t slot;
};

ALWAYS_INLINE int is_heap_object(uint64_t word)
{
    return (word & 3) == 1;
}

ALWAYS_INLINE int is_certainly_cpp(const struct ProcessConfig *config, uint64_t pc)
{
    if (pc >= config->builtins_start && pc < config->builtins_end)
        return 0;
    return pc >= config->native_start && pc < config->native_end;
}

#include "identify.h"

/* Where the frame's words are: a pointer into the window; 0: not readable. */
ALWAYS_INLINE uint64_t *frame_words(struct scratch *scratch, uint64_t fp)
{
    struct state *now = &scratch->now;
    uint64_t start = fp - FRAME_BELOW;

    if (start < now->window_start || start + FRAME_BYTES > now->window_end) {
        /* Not past the page: the stack may end there. */
        uint64_t size = PAGE - (start & (PAGE - 1));
        if (size > WINDOW)
            size = WINDOW;
        if (size < FRAME_BYTES)
            size = FRAME_BYTES;
        FORGET(size);
        size &= 2 * WINDOW - 1;
        if (size > WINDOW || probe_read_user(scratch->window, size, start)) {
            /* What lies below the frame pointer may be in a page that the
             * thread has not touched yet. */
            now->window_end = 0;
            for (int i = 0; i < FRAME_BELOW / 8; i++)
                scratch->window[i] = 0;
            if (probe_read_user(&scratch->window[FRAME_BELOW / 8], 16, fp))
                return 0;
            return scratch->window;
        }
        now->window_start = start;
        now->window_end = start + size;
        return scratch->window;
    }
    uint64_t at = start - now->window_start;
    FORGET(at);
    at &= WINDOW - 8;
    return (uint64_t *)((uint8_t *)scratch->window + at);
}

/* Of the words of a frame, the one that is so many bytes below its fp. */
ALWAYS_INLINE uint64_t *word_below(uint64_t *words, uint32_t below)
{
    uint64_t at = FRAME_BELOW - below;

    FORGET(at);
    at &= FRAME_BYTES - 8;
    return (uint64_t *)((uint8_t *)words + at);
}

#include "unwind.h"

/* Whether it is V8's frame for calls from C++: it has its type twice, ENTRY or
 * ENTRY_CONSTRUCT (JSEntryStub in src/x64/code-stubs-x64.cc of 3.14), a Smi. */
ALWAYS_INLINE int is_entry(const struct FrameRecord *frame)
{
    return frame->context == frame->function &&
           (frame->context == 1ULL << 32 || frame->context == 2ULL << 32);
}

/* One frame. Returns 1 when it was the last one. */
ALWAYS_INLINE long take_frame(struct walk *walk)
{
    struct scratch *scratch = walk->scratch;
    struct ProcessConfig *config = walk->config;
    struct state *now = &scratch->now;
    uint32_t index = now->count;
    uint64_t fp = now->fp;

    if (index >= config->max_depth || index >= FRAMES) {
        now->flags |= TRUNCATED;
        return 1;
    }
    uint64_t slot = index;
    FORGET(slot);
    slot &= FRAMES - 1;
    struct FrameRecord *frame = &scratch->frames[slot];

    now->count = index + 1;
    frame->pc = now->pc;
    frame->fp = fp;
    frame->context = 0;
    frame->function = 0;
    frame->bytecode_array = 0;
    frame->bytecode_offset = 0;
    frame->shared = 0;
    frame->script = 0;
    frame->script_id = 0;
    frame->literal_id = 0;

    uint32_t rule = now->rule;
    if (rule != RULE_NOTHING && rule != RULE_FRAME_POINTER && rule != RULE_NOWHERE) {
        int done = unwind(walk->slot);
        if (done != BY_FRAME_POINTER) {
            frame->fp = now->frame_fp;
            return done != GO_ON;
        }
    }
    if (fp == 0)
        return 1;
    if (fp <= now->below) {
        now->flags |= NOT_ABOVE;
        return 1;
    }
    uint64_t *words = fp & 7 ? 0 : frame_words(scratch, fp);
    if (!words) {
        now->flags |= UNREADABLE;
        return 1;
    }
    uint64_t size = fp - now->below;
    if (config->has_v8 && size > config->frame_bytecode_offset) {
        frame->bytecode_offset = *word_below(words, config->frame_bytecode_offset);
        frame->bytecode_array = *word_below(words, config->frame_bytecode_array);
    }
    if (size > 16)
        frame->function = words[4];
    if (size > 8)
        frame->context = words[5];
    /* The first frame is looked at wherever its pc is: in a frameless C++
     * function, its fp is that of the JavaScript frame that called it. */
    if (config->has_v8 && is_heap_object(frame->context) && is_heap_object(frame->function) &&
        (index == 0 || !is_certainly_cpp(config, now->pc)))
        identify(walk, frame);

    if (words[7] == 0)
        return 1;
    if (words[7] < USER_START || words[7] >= USER_END) {
        now->flags |= NOT_CODE;
        return 1;
    }
    now->pc = words[7];
    now->fp = words[6];
    now->sp = fp + 16;
    now->below = fp + 8;
    if (config->entry_caller && size > 16 && is_entry(frame) &&
        probe_read_user(&now->fp, sizeof(now->fp), fp - config->entry_caller))
        now->fp = 0;
    now->rule = find_rule(walk->slot, now->pc - 1);
    if (now->rule == RULE_NOWHERE) {
        now->flags |= MET_NEW_CODE;
        /* V8's code may have been put there a moment ago, and has frame pointers. Of
         * native code that has none, it was no return address. */
        if (rule == RULE_NOTHING) {
            now->flags |= NOT_CODE;
            return 1;
        }
    }
    return 0;
}

static long turn_of_loop(uint32_t turn, struct walk *walk)
{
    (void)turn;
    return take_frame(walk);
}

static long turn_of_map(void *map, uint32_t *key, uint64_t *value, struct walk *walk)
{
    (void)map, (void)key, (void)value;
    return take_frame(walk);
}

ALWAYS_INLINE void keep_registers(struct Registers *to, const struct pt_regs *from)
{
    to->rip = from->rip;
    to->rsp = from->rsp;
    to->rbp = from->rbp;
    to->rax = from->rax;
    to->rbx = from->rbx;
    to->rcx = from->rcx;
    to->rdx = from->rdx;
    to->rsi = from->rsi;
    to->rdi = from->rdi;
    to->r8 = from->r8;
    to->r9 = from->r9;
    to->r10 = from->r10;
    to->r11 = from->r11;
    to->r12 = from->r12;
    to->r13 = from->r13;
    to->r14 = from->r14;
    to->r15 = from->r15;
}

/* The words from the stack pointer upwards; near the stack's end, those to the
 * end of its last page. */
ALWAYS_INLINE void keep_stack(struct SampleHeader *header)
{
    uint64_t rsp = header->registers.rsp;

    header->stack_count = 0;
    if (probe_read_user(header->stack, sizeof(header->stack), rsp) == 0) {
        header->stack_count = STACK_WORDS;
        return;
    }
    uint64_t bytes = (PAGE - (rsp & (PAGE - 1))) & ~7ULL;
    FORGET(bytes);
    if (bytes < sizeof(header->stack) && probe_read_user(header->stack, bytes, rsp) == 0)
        header->stack_count = bytes / 8;
}

ALWAYS_INLINE void count_lost(void)
{
    uint32_t zero = 0;
    uint64_t *counter = map_lookup(&lost, &zero);

    if (counter)
        ++*counter;
}

/* What get_current_pid_tgid returns in the initial PID namespace, for the
 * reader's; 0 for a thread that is not in it. */
ALWAYS_INLINE uint64_t pid_tid_in_namespace(void)
{
    struct task_struct *task = get_current_task_btf();
    struct pid *tid = task->thread_pid;
    struct pid *pid = task->group_leader->thread_pid;

    if (!tid || !pid)
        return 0;
    for (uint32_t level = 0; level <= MAX_NAMESPACE_LEVEL; level++) {
        struct upid number;
        uint32_t inum;

        if (level > tid->level)
            return 0;
        if (probe_read_kernel(&number, sizeof(number), &tid->numbers[level]) ||
            probe_read_kernel(&inum, sizeof(inum), &number.ns->ns.inum))
            return 0;
        if (inum != pid_namespace)
            continue;
        uint32_t tid_there = number.nr;
        if (probe_read_kernel(&number, sizeof(number), &pid->numbers[level]))
            return 0;
        return (uint64_t)(uint32_t)number.nr << 32 | tid_there;
    }
    return 0;
}

/* What get_current_pid_tgid returns, as the reader's PID namespace numbers it. */
ALWAYS_INLINE uint64_t current_pid_tid(void)
{
    return pid_namespace ? pid_tid_in_namespace() : get_current_pid_tgid();
}

/* Takes the stack of the current thread, whose registers in user mode the scratch
 * has. `flags`: IN_KERNEL, where it is not there. Returns the size of the sample that
 * the scratch holds then; 0: there is none. */
ALWAYS_INLINE uint64_t take_stack(void *context, struct scratch *scratch,
                                  struct ProcessConfig *config, uint64_t pid_tid,
                                  uint32_t flags)
{
    struct SampleHeader *header = &scratch->header;
    struct walk walk = {.scratch = scratch, .config = config, .slot = get_smp_processor_id()};
    struct state *now = &scratch->now;

    now->count = 0;
    now->flags = flags;
    now->window_start = 0;
    now->window_end = 0;
    now->builtins_start = config->builtins_start;
    now->builtins_end = config->builtins_end;
    now->code_mappings = config->code_mappings;
    now->code_generation = config->code_generation;

    scratch->sample++;
    header->time_ns = ktime_get_ns();
    header->pid = pid_tid >> 32;
    header->tid = (uint32_t)pid_tid;
    header->kernel_count = 0;
    keep_stack(header);

    /* Code in a file stays what it is. */
    if (config->has_v8 && !(header->registers.rip >= config->native_start &&
                            header->registers.rip < config->native_end) &&
        probe_read_user(header->code, sizeof(header->code),
                        header->registers.rip - CODE_BEFORE) == 0)
        now->flags |= HAS_CODE;

    /* A thread that only works for the kernel (io_uring's) has no user registers. */
    if (header->registers.rip) {
        now->pc = header->registers.rip;
        now->fp = header->registers.rbp;
        now->sp = header->registers.rsp;
        now->below = header->registers.rsp - 1;
        now->rule = find_rule(walk.slot, now->pc);
        if (now->rule == RULE_NOWHERE)
            now->flags |= MET_NEW_CODE;
        if (has_loop)
            loop(FRAMES + 1, turn_of_loop, &walk, 0);
        else
            for_each_map_elem(&turns, turn_of_map, &walk, 0);
    }
    header->flags = now->flags;
    header->frame_count = now->count;

    uint64_t count = now->count;
    FORGET(count);
    if (count > FRAMES)
        return 0;
    uint64_t size = sizeof(*header) + count * sizeof(struct FrameRecord);
    if (want_kernel && (now->flags & IN_KERNEL)) {
        uint64_t bytes = get_stack(context, (uint8_t *)scratch + size, sizeof(scratch->tail), 0);
        FORGET(bytes);
        if (bytes <= sizeof(scratch->tail)) {
            header->kernel_count = bytes / 8;
            size += bytes;
        }
    }
    return size;
}

/* Hands out what the scratch holds. Returns 0 if that went well. */
ALWAYS_INLINE long send(struct scratch *scratch, uint64_t size)
{
    /* Never so; older verifiers have lost count by here. */
    FORGET(size);
    if (size > sizeof(scratch->header) + sizeof(scratch->frames) + sizeof(scratch->tail))
        return 0;
    uint64_t waiting = ringbuf_query(&samples, RINGBUF_AVAILABLE_DATA);
    long error = ringbuf_output(&samples, scratch, size,
                                waiting >= wake_bytes ? RINGBUF_FORCE_WAKEUP : RINGBUF_NO_WAKEUP);
    if (error)
        count_lost();
    return error;
}

SECTION("perf_event")
int nodetap_sample(struct perf_event_context *context)
{
    uint64_t pid_tid = current_pid_tid();
    uint32_t pid = pid_tid >> 32;
    struct ProcessConfig *config = map_lookup(&processes, &pid);
    if (!config)
        return 0;
    uint32_t cpu = get_smp_processor_id();
    struct scratch *scratch = map_lookup(&scratches, &cpu);
    if (!scratch) {
        count_lost();
        return 0;
    }

    uint32_t flags = 0;
    if ((context->regs.cs & 3) == 3) {
        keep_registers(&scratch->header.registers, &context->regs);
    } else {
        struct pt_regs regs;
        flags = IN_KERNEL;
        if (probe_read_kernel(&regs, sizeof(regs), task_pt_regs(get_current_task_btf()))) {
            count_lost();
            return 0;
        }
        keep_registers(&scratch->header.registers, &regs);
    }
    uint64_t size = take_stack(context, scratch, config, pid_tid, flags);
    if (size)
        send(scratch, size);
    return 0;
}

#include "wall.h"

/* get_stack, get_current_task_btf and task_pt_regs are for GPL programs. */
char licence_of_the_program[] SECTION("license") = "Dual MIT/GPL";
