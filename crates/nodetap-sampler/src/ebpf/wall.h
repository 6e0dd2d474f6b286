/* Off-CPU time: takes the stack of every thread of a watched process when it
 * loses its CPU, and tells when it has one again. Included by walk.bpf.c. */
#ifndef NODETAP_WALL_H
#define NODETAP_WALL_H

/* A tick is due at each multiple of this. */
const volatile uint64_t tick_ns = 1000000;

/* Since when a thread is without a CPU, by its number in the initial PID namespace:
 * time_ns of its sample. */
struct {
    MAP_UINT(type, MAP_HASH);
    MAP_TYPE(key, uint32_t);
    MAP_TYPE(value, uint64_t);
    MAP_UINT(max_entries, MAX_WAITS);
} waits SECTION(".maps");

/* Threads of which nobody wants to know what they wait for. */
struct {
    MAP_UINT(type, MAP_HASH);
    MAP_TYPE(key, uint32_t);
    MAP_TYPE(value, uint32_t);
    MAP_UINT(max_entries, MAX_WAITS);
} ignored SECTION(".maps");

/* Thread `key` gets a CPU. */
ALWAYS_INLINE void end_wait(uint32_t key)
{
    uint64_t *since = map_lookup(&waits, &key);

    if (!since)
        return;
    struct WaitEnd end = {.since_ns = *since, .time_ns = ktime_get_ns(), .wait_key = key};
    map_delete(&waits, &key);
    /* Most waits are short, and no tick falls into them. */
    if (end.since_ns / tick_ns == end.time_ns / tick_ns)
        return;
    if (ringbuf_output(&samples, &end, sizeof(end), RINGBUF_NO_WAKEUP))
        count_lost();
}

SECTION("raw_tracepoint")
int nodetap_switch(struct switch_context *context)
{
    uint32_t key;

    if (probe_read_kernel(&key, sizeof(key), &context->next->pid) == 0 && key)
        end_wait(key);

    /* The thread that loses the CPU is the current one still. */
    uint64_t pid_tid = current_pid_tid();
    uint32_t pid = pid_tid >> 32;
    struct ProcessConfig *config = map_lookup(&processes, &pid);
    if (!config)
        return 0;
    struct task_struct *task = get_current_task_btf();
    uint32_t state = task->__state;
    key = task->pid;
    if (state & TASK_DEAD) {
        map_delete(&ignored, &key);
        return 0;
    }
    if (state && map_lookup(&ignored, &key))
        return 0;

    struct pt_regs regs;
    uint32_t cpu = get_smp_processor_id();
    struct scratch *scratch = map_lookup(&scratches, &cpu);
    if (!scratch || probe_read_kernel(&regs, sizeof(regs), task_pt_regs(task))) {
        count_lost();
        return 0;
    }
    /* It only works for the kernel (io_uring's). */
    if (!regs.rip)
        return 0;
    uint32_t flags = IN_KERNEL | OFF_CPU;
    if (!state)
        flags |= IS_READY;
    if (state & (TASK_STOPPED | TASK_TRACED))
        flags |= IS_STOPPED;
    keep_registers(&scratch->header.registers, &regs);
    uint64_t size = take_stack(context, scratch, config, pid_tid, flags);
    scratch->header.wait_key = key;
    scratch->header.system_call = regs.orig_rax;
    if (!size)
        return 0;
    uint64_t since = scratch->header.time_ns;
    if (map_update(&waits, &key, &since, 0)) {
        count_lost();
        return 0;
    }
    if (send(scratch, size))
        map_delete(&waits, &key);
    return 0;
}

#endif
