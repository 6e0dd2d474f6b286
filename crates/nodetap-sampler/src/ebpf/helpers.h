/* The little of the BPF interface that the program uses, so that clang alone,
 * without libbpf's or the kernel's headers, can compile it. Numbers are those
 * of the kernel's stable interface, include/uapi/linux/bpf.h. */
#ifndef NODETAP_HELPERS_H
#define NODETAP_HELPERS_H

typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef int int32_t;
typedef unsigned long long uint64_t;
typedef long long int64_t;

#define SECTION(name) __attribute__((section(name), used))
#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* A map's definition, as BTF describes it. */
#define MAP_UINT(name, value) int(*name)[value]
#define MAP_TYPE(name, type) type *name

enum {
    MAP_HASH = 1,
    MAP_ARRAY = 2,
    MAP_PERCPU_ARRAY = 6,
    MAP_HASH_OF_MAPS = 13,
    MAP_RINGBUF = 27,
};

/* Flags of maps: user space may map it; it may be replaced by one of another size
 * where it is inside another map. */
enum {
    MAP_MMAPABLE = 1 << 10,
    MAP_INNER = 1 << 12,
};

/* Flags of bpf_ringbuf_output and bpf_ringbuf_query. */
enum {
    RINGBUF_NO_WAKEUP = 1,
    RINGBUF_FORCE_WAKEUP = 2,
    RINGBUF_AVAILABLE_DATA = 0,
};

struct task_struct;

static void *(*map_lookup)(void *map, const void *key) = (void *)1;
static long (*map_update)(void *map, const void *key, const void *value, uint64_t flags) = (void *)2;
static long (*map_delete)(void *map, const void *key) = (void *)3;
static uint64_t (*ktime_get_ns)(void) = (void *)5;
static uint32_t (*get_smp_processor_id)(void) = (void *)8;
static uint64_t (*get_current_pid_tgid)(void) = (void *)14;
static long (*get_stack)(void *ctx, void *to, uint32_t size, uint64_t flags) = (void *)67;
static long (*probe_read_user)(void *to, uint32_t size, uint64_t from) = (void *)112;
static long (*probe_read_kernel)(void *to, uint32_t size, const void *from) = (void *)113;
static long (*ringbuf_output)(void *ring, void *data, uint64_t size, uint64_t flags) = (void *)130;
static uint64_t (*ringbuf_query)(void *ring, uint64_t what) = (void *)134;
static struct task_struct *(*get_current_task_btf)(void) = (void *)158;
static void *(*task_pt_regs)(struct task_struct *task) = (void *)175;
static long (*for_each_map_elem)(void *map, void *body, void *context, uint64_t flags) = (void *)164;
static long (*loop)(uint32_t times, void *body, void *context, uint64_t flags) = (void *)181;

/* The general registers as the kernel saves them on entry, x86-64:
 * `struct pt_regs` of arch/x86/include/uapi/asm/ptrace.h. */
struct pt_regs {
    uint64_t r15, r14, r13, r12, rbp, rbx;
    uint64_t r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
    uint64_t orig_rax, rip, cs, eflags, rsp, ss;
};

/* What a perf_event program is given. */
struct perf_event_context {
    struct pt_regs regs;
    uint64_t sample_period;
    uint64_t address;
};

/* Of the kernel's own types the members that are used; where they really lie
 * is taken from the running kernel's type information when the program is
 * loaded. */
#define RELOCATED __attribute__((preserve_access_index))

/* The most that PID namespaces can be nested (include/linux/pid_namespace.h). */
#define MAX_NAMESPACE_LEVEL 32

struct ns_common {
    uint32_t inum;
} RELOCATED;

struct pid_namespace {
    struct ns_common ns;
} RELOCATED;

struct upid {
    int32_t nr;
    struct pid_namespace *ns;
} RELOCATED;

struct pid {
    uint32_t level;
    struct upid numbers[1];
} RELOCATED;

struct task_struct {
    /* What a thread waits for; 0: it could run (TASK_RUNNING). */
    uint32_t __state;
    /* Its number in the initial PID namespace. */
    int32_t pid;
    struct pid *thread_pid;
    struct task_struct *group_leader;
} RELOCATED;

/* Bits of task_struct.__state (include/linux/sched.h). */
#define TASK_STOPPED 0x4
#define TASK_TRACED 0x8
#define TASK_DEAD 0x80

/* What a raw tracepoint's program is given at sched_switch. (Later kernels give it
 * more, behind these.) */
struct switch_context {
    uint64_t preempt;
    struct task_struct *prev;
    struct task_struct *next;
};

/* Hides from the compiler what it knows of a value, so that it keeps the
 * bounds check or mask that follows: the verifier needs to see it. */
#define FORGET(value) asm volatile("" : "+r"(value))

#endif
