/* What identifies the function of a JavaScript frame for good, whatever the garbage
 * collector does. Included by walk.bpf.c, which has its types. */
#ifndef NODETAP_IDENTIFY_H
#define NODETAP_IDENTIFY_H

/* Script.id, a Smi; 0 if it cannot be read or is none. */
ALWAYS_INLINE uint32_t read_script_id(struct walk *walk, uint64_t script)
{
    struct scratch *scratch = walk->scratch;
    uint64_t id = 0;

    struct seen_script *seen = &scratch->scripts[(script >> 4) & (SEEN_SCRIPTS - 1)];
    if (seen->sample == scratch->sample && seen->script == script)
        return seen->script_id;
    if (probe_read_user(&id, sizeof(id), script - 1 + walk->config->script_id))
        id = 0;
    /* Without pointer compression a Smi's value is the upper half, the lower is 0. */
    id = (uint32_t)id ? 0 : id >> 32;
    seen->sample = scratch->sample;
    seen->script = script;
    seen->script_id = id;
    return id;
}

/* What a ScopeInfo begins with. All three are Smis. */
struct scope_info {
    uint64_t flags;
    uint64_t parameters;
    uint64_t locals;
};
/* ReceiverVariableField in src/objects/scope-info.h. */
#define RECEIVER_VARIABLE(flags) ((flags) >> 7 & 3)
#define UNUSED 3
/* More locals than any function has. */
#define MAX_LOCALS (1 << 20)

/* Where a function starts, with its kind (ScopeInfo::literal in nodetap-v8).
 * Returns whether its ScopeInfo tells. */
ALWAYS_INLINE int read_place(struct walk *walk, uint64_t info, uint32_t *literal)
{
    struct ProcessConfig *config = walk->config;
    uint64_t start = info - 1 + config->scope_info_flags;
    struct scope_info head;
    uint64_t place;

    if (!is_heap_object(info) || probe_read_user(&head, sizeof(head), start))
        return 0;
    uint32_t flags = head.flags >> 32;
    uint32_t locals = head.locals >> 32;
    if (locals > MAX_LOCALS)
        return 0;
    /* The name of each local, and what is known of it. */
    start += sizeof(head) + 16 * (uint64_t)locals;
    if (RECEIVER_VARIABLE(flags) && RECEIVER_VARIABLE(flags) != UNUSED)
        start += 8;
    if (flags & config->scope_info_function_variable)
        start += 16;
    if (flags & config->scope_info_inferred_name)
        start += 8;
    if (probe_read_user(&place, sizeof(place), start) || (uint32_t)place)
        return 0;
    *literal = (uint32_t)(place >> 32) << 5 | (flags >> (config->scope_info_kind_shift & 31) & 31);
    return 1;
}

/* What identifies the function of a JavaScript frame. */
ALWAYS_INLINE void identify(struct walk *walk, struct FrameRecord *frame)
{
    struct scratch *scratch = walk->scratch;
    struct ProcessConfig *config = walk->config;
    uint64_t shared, script, code = 0;
    uint32_t script_id = 0, literal_id = 0;

    struct seen_function *seen =
        &scratch->functions[(frame->function >> 4) & (SEEN_FUNCTIONS - 1)];
    if (seen->sample == scratch->sample && seen->function == frame->function) {
        if (config->shared_code)
            frame->bytecode_array = seen->code;
        frame->shared = seen->shared;
        frame->script = seen->script;
        frame->script_id = seen->script_id;
        frame->literal_id = seen->literal_id;
        return;
    }

    script = 0;
    if (probe_read_user(&shared, sizeof(shared), frame->function - 1 + config->function_shared))
        shared = 0;
    if (is_heap_object(shared)) {
        uint64_t first = config->shared_script;
        if (config->shared_code)
            first = config->shared_code;
        else if (config->shared_scope_info)
            first = config->shared_scope_info;
        uint64_t to_script = config->shared_script - first;
        uint64_t distance = config->shared_literal_id - first;
        FORGET(to_script);
        FORGET(distance);
        to_script &= SHARED_WINDOW - 1;
        distance &= SHARED_WINDOW - 1;
        if (probe_read_user(scratch->shared_bytes, distance + sizeof(literal_id),
                            shared - 1 + first) == 0) {
            if (config->shared_code)
                code = *(uint64_t *)scratch->shared_bytes;
            script = *(uint64_t *)(scratch->shared_bytes + to_script);
            literal_id = *(uint32_t *)(scratch->shared_bytes + distance);
            if (config->shared_scope_info &&
                !read_place(walk, *(uint64_t *)scratch->shared_bytes, &literal_id))
                script = 0;
        }
        if (is_heap_object(script)) {
            script_id = read_script_id(walk, script);
            if (!script_id && config->debug_info_script) {
                uint64_t real;
                if (probe_read_user(&real, sizeof(real),
                                    script - 1 + config->debug_info_script) == 0 &&
                    is_heap_object(real)) {
                    script_id = read_script_id(walk, real);
                    if (script_id)
                        script = real;
                }
            }
        } else {
            script = 0;
            literal_id = 0;
        }
    } else {
        shared = 0;
    }
    seen->sample = scratch->sample;
    seen->function = frame->function;
    seen->code = code;
    if (config->shared_code)
        frame->bytecode_array = code;
    frame->shared = seen->shared = shared;
    frame->script = seen->script = script;
    frame->script_id = seen->script_id = script_id;
    frame->literal_id = seen->literal_id = literal_id;
}

#endif
