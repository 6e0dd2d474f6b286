/* From a frame of native code to its caller's, by the rules that user space has
 * made of what the code's file tells (`unwind/` of the sampler). Its types are
 * those of walk.bpf.c, which includes it. */
#ifndef NODETAP_UNWIND_H
#define NODETAP_UNWIND_H

/* Halvings that find one of so many mappings of a process. */
#define MAPPING_TURNS 11
/* And one of so many rows of a file: 16 million. */
#define ROW_TURNS 24
/* The lowest and the highest callee-saved slot that are read along with the return
 * address, in words below the canonical frame address. */
#define NEAR_WORDS 8
#define REGISTER_COUNT 17

/* Beside the kinds of rules: V8's code, which keeps frame pointers. */
#define RULE_FRAME_POINTER 14
/* No code is known to be there. */
#define RULE_NOWHERE 15

/* The rows of each file, by the number that user space has given it. */
struct {
    MAP_UINT(type, MAP_HASH_OF_MAPS);
    MAP_TYPE(key, uint32_t);
    MAP_UINT(max_entries, MAX_TABLES);
    /* Without names, so that clang describes it in full. */
    struct {
        MAP_UINT(type, MAP_ARRAY);
        MAP_UINT(key_size, sizeof(uint32_t));
        MAP_UINT(value_size, sizeof(struct UnwindRow));
        MAP_UINT(max_entries, 1);
        MAP_UINT(map_flags, MAP_MMAPABLE | MAP_INNER);
    } *values[];
} tables SECTION(".maps");

/* The executable memory of each process, sorted, by `code_generation`. */
struct {
    MAP_UINT(type, MAP_HASH_OF_MAPS);
    MAP_TYPE(key, uint64_t);
    /* For a moment a process has two. */
    MAP_UINT(max_entries, 2 * MAX_PROCESSES);
    struct {
        MAP_UINT(type, MAP_ARRAY);
        MAP_UINT(key_size, sizeof(uint32_t));
        MAP_UINT(value_size, sizeof(struct CodeMapping));
        MAP_UINT(max_entries, 1);
        MAP_UINT(map_flags, MAP_INNER);
    } *values[];
} code SECTION(".maps");

/* The rule for `offset` in the file whose table has this number. Verified once, as it
 * is not `static`, whatever is known where it is called. */
__attribute__((noinline)) uint32_t find_row(uint32_t table, uint32_t row_count, uint32_t offset)
{
    void *rows = map_lookup(&tables, &table);
    if (!rows)
        return RULE_NOTHING;
    uint32_t low = 0, high = row_count;
    uint32_t rule = RULE_NOTHING;
    for (int turn = 0; turn < ROW_TURNS && low < high; turn++) {
        uint32_t middle = low + (high - low) / 2;
        struct UnwindRow *row = map_lookup(rows, &middle);
        if (row && row->start <= offset) {
            rule = row->rule;
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return rule;
}

/* The rule for the instruction at `pc`, in code of which so many mappings are known. */
__attribute__((noinline)) uint32_t search_rule(uint64_t pc, uint64_t generation,
                                               uint32_t mapping_count)
{
    void *mappings = map_lookup(&code, &generation);
    if (!mappings)
        return RULE_NOTHING;
    uint32_t low = 0, high = mapping_count;
    struct CodeMapping *found = 0;
    for (int turn = 0; turn < MAPPING_TURNS && low < high; turn++) {
        uint32_t middle = low + (high - low) / 2;
        struct CodeMapping *mapping = map_lookup(mappings, &middle);
        if (mapping && mapping->start <= pc) {
            found = mapping;
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (!found || pc >= found->end)
        return RULE_NOWHERE;
    if (!found->table)
        return found->is_file ? RULE_NOTHING : RULE_FRAME_POINTER;
    return find_row(found->table, found->rows, pc - found->base);
}

/* The rule for the instruction at `pc` in the walk whose state the scratch with this key
 * has. What was found before is remembered. */
__attribute__((noinline)) uint32_t find_rule(uint32_t slot, uint64_t pc)
{
    struct scratch *scratch = map_lookup(&scratches, &slot);
    if (!scratch || !scratch->now.code_generation)
        return RULE_NOTHING;
    struct state *now = &scratch->now;
    if (pc >= now->builtins_start && pc < now->builtins_end)
        return RULE_FRAME_POINTER;
    struct seen_rule *seen = &scratch->rules[(pc ^ pc >> 10) & (SEEN_RULES - 1)];
    if (seen->pc == pc && seen->generation == now->code_generation)
        return seen->rule;
    uint32_t rule = search_rule(pc, now->code_generation, now->code_mappings);
    seen->pc = pc;
    seen->generation = now->code_generation;
    seen->rule = rule;
    return rule;
}

/* A word of the stack. Returns 0 if it could be read. */
ALWAYS_INLINE long read_word(uint64_t *word, uint64_t address)
{
    return probe_read_user(word, sizeof(*word), address);
}

/* What the walk does after a rule was tried. */
enum { GO_ON, LAST, BY_FRAME_POINTER };

ALWAYS_INLINE int ends_with(struct state *now, uint32_t flags)
{
    now->flags |= flags;
    return LAST;
}

/* To a frame whose instruction at `looked_up` is executed. */
ALWAYS_INLINE int goes_on(struct state *now, uint32_t slot, uint64_t pc, uint64_t looked_up,
                          uint64_t sp, uint64_t fp)
{
    uint32_t rule = find_rule(slot, looked_up);

    /* Nobody returns to where no code is. */
    if (rule == RULE_NOWHERE)
        return ends_with(now, NOT_CODE | MET_NEW_CODE);
    now->pc = pc;
    now->sp = sp;
    now->fp = fp;
    now->rule = rule;
    return GO_ON;
}

/* To what a signal handler interrupted: its registers are on the stack. */
ALWAYS_INLINE int to_interrupted(struct state *now, uint32_t slot)
{
    uint64_t pc, sp, fp;

    if (read_word(&pc, now->sp + SIGNAL_PC) || read_word(&sp, now->sp + SIGNAL_SP) ||
        read_word(&fp, now->sp + SIGNAL_FP))
        return ends_with(now, UNREADABLE);
    if (sp <= now->sp)
        return ends_with(now, NOT_ABOVE);
    now->frame_fp = sp - 16;
    now->below = sp - 1;
    return goes_on(now, slot, pc, pc, sp, fp);
}

/* From the frame where the walk is to its caller, by the rule that holds for it
 * (`Rule::apply` in unwind/rule.rs). */
__attribute__((noinline)) int unwind(uint32_t slot)
{
    struct scratch *scratch = map_lookup(&scratches, &slot);
    if (!scratch)
        return BY_FRAME_POINTER;
    struct state *now = &scratch->now;
    uint32_t rule = now->rule;
    uint32_t kind = rule & 15;
    int64_t parameter = (int64_t)((int32_t)rule >> RULE_PARAMETER_SHIFT) * 8;
    uint64_t cfa;

    now->frame_fp = now->fp;
    if (kind == RULE_END)
        return ends_with(now, ENDED);
    if (kind == RULE_SIGNAL)
        return to_interrupted(now, slot);
    if (kind == RULE_CFA_SP) {
        cfa = now->sp + parameter;
    } else if (kind == RULE_CFA_FP) {
        cfa = now->fp + parameter;
    } else if (kind == RULE_CFA_DEREF_SP || kind == RULE_CFA_DEREF_FP) {
        uint64_t base = kind == RULE_CFA_DEREF_SP ? now->sp : now->fp;
        int64_t first = (int64_t)((int32_t)(rule << 7) >> 20) * 8;
        if (read_word(&cfa, base + first))
            return ends_with(now, UNREADABLE);
        cfa += (uint64_t)(rule >> 25) * 8;
    } else if (kind == RULE_CFA_REGISTER) {
        uint64_t place = rule >> RULE_PARAMETER_SHIFT & 31;
        FORGET(place);
        /* Of callers, only some registers are known. */
        if (now->count > 1 || place >= REGISTER_COUNT)
            return BY_FRAME_POINTER;
        cfa = ((uint64_t *)&scratch->header.registers)[place] +
              (int64_t)((int32_t)rule >> 18) * 8;
    } else if (kind == RULE_CFA_PLT) {
        cfa = now->sp + 8 + ((now->pc & 15) >= (rule >> RULE_PARAMETER_SHIFT) ? 8 : 0);
    } else {
        return BY_FRAME_POINTER;
    }
    if (cfa <= now->sp || cfa & 7)
        return ends_with(now, NOT_ABOVE);

    uint64_t *words = frame_words(scratch, cfa - 16);
    if (!words)
        return ends_with(now, UNREADABLE);
    uint64_t pc = words[7];
    uint64_t fp = now->fp;
    uint64_t offset = rule >> RULE_OFFSET_SHIFT & 63;
    int64_t near = (int64_t)((int32_t)(offset << 26) >> 26) * 8;
    uint32_t saved = rule >> RULE_FP_SHIFT & 7;
    uint64_t at = 0;
    if (saved == RULE_FP_AT_CFA && offset >= 1 && offset <= NEAR_WORDS)
        fp = *word_below(words, 8 * offset - 16);
    else if (saved == RULE_FP_AT_CFA)
        at = cfa - 8 * offset;
    else if (saved == RULE_FP_AT_FP)
        at = now->fp + near;
    else if (saved == RULE_FP_AT_SP)
        at = now->sp + near;
    else if (saved == RULE_FP_LOST)
        fp = 0;
    if (at && read_word(&fp, at))
        return ends_with(now, UNREADABLE);
    now->frame_fp = cfa - 16;
    if (!pc)
        return ends_with(now, ENDED);
    now->below = cfa - 8;
    return goes_on(now, slot, pc, pc - 1, cfa, fp);
}

#endif
