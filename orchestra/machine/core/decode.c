/* decode.c: instruction words to operations; the table of isa.def is the only source. */
#include "machine.h"

enum { R, I, S, B, U, J, SH, FR, R4, CSR, N };

// the second column of what each meaning says: does it end a block?
#define ALU(...)           false
#define JUMP(...)          true
#define JUMP_REGISTER(...) true
#define BRANCH(...)        true
#define LOAD(...)          false
#define STORE(...)         false
#define FLOAT_LOAD(...)    false
#define FLOAT_STORE(...)   false
#define RESERVE(...)       false
#define CONDITIONAL(...)   false
#define ATOMIC(...)        false
#define FLOAT_S(...)       false
#define FLOAT_D(...)       false
#define FLOAT_X(...)       false
#define SYSTEM(...)        true
#define ALU_NONE(...)      false

const instruction instructions[OP_COUNT] = {
#define OP(name, format, match, mask, operands, meaning) {#name, operands, match, mask, 0, format, meaning},
#define EXTRA(extension, name, format, match, mask, operands, meaning)                                       \
    {#name, operands, match, mask, EXTENSION_##extension, format, meaning},
#include "isa.def"
#undef OP
};

uint32_t extension_bit(const char *wanted) {
#define EXTENSION(name)                                                                                      \
    if (!strcmp(wanted, #name)) return EXTENSION_##name;
    EXTENSIONS(EXTENSION)
#undef EXTENSION
    return 0;
}

static unsigned bucket_of(uint32_t word) { return (word >> 2 & 31) << 3 | (word >> 12 & 7); }

decoder *decoder_new(uint32_t extensions) {
    decoder *d = malloc(sizeof *d);
    if (!d) return NULL;
    unsigned count = 0;
    for (unsigned bucket = 0; bucket < 256; bucket++) {
        uint32_t word = (bucket >> 3) << 2 | (bucket & 7) << 12 | 3;
        d->start[bucket] = (uint16_t)count;
        for (unsigned op = 0; op < OP_COUNT; op++) {
            uint32_t mask = instructions[op].mask & 0x707f;
            if (instructions[op].extension & ~extensions) continue;
            if ((word & mask) == (instructions[op].match & mask)) d->list[count++] = (uint16_t)op;
        }
    }
    d->start[256] = (uint16_t)count;
    d->extensions = extensions;
    return d;
}

void decoder_free(decoder *d) { free(d); }

unsigned decode_opcode(const board *b, uint32_t word) {
    unsigned bucket = bucket_of(word);
    for (unsigned i = b->decoder->start[bucket]; i < b->decoder->start[bucket + 1]; i++) {
        const instruction *candidate = &instructions[b->decoder->list[i]];
        if ((word & candidate->mask) == candidate->match) return b->decoder->list[i];
    }
    return OP_illegal;
}

static uint32_t bits(uint32_t word, unsigned high, unsigned low, unsigned to) {
    return ((word >> low) & ((1u << (high - low + 1)) - 1)) << to;
}

// operations

static int32_t immediate(uint32_t w, unsigned format) {
    int32_t top = (int32_t)w >> 31;
    switch (format) {
    case I: return (int32_t)w >> 20;
    case S: return ((int32_t)w >> 25) * 32 + (int32_t)bits(w, 11, 7, 0);
    case B: return top * 4096 + (int32_t)(bits(w, 7, 7, 11) | bits(w, 30, 25, 5) | bits(w, 11, 8, 1));
    case U: return (int32_t)(w & 0xfffff000);
    case J: return top * 1048576 + (int32_t)(bits(w, 19, 12, 12) | bits(w, 20, 20, 11) | bits(w, 30, 21, 1));
    case SH: return (int32_t)bits(w, 25, 20, 0);
    case FR: return (int32_t)bits(w, 14, 12, 0);
    case R4: return (int32_t)(bits(w, 14, 12, 0) | bits(w, 31, 27, 8));
    case CSR: return (int32_t)bits(w, 31, 20, 0);
    }
    return 0;
}

static bool near_target(unsigned format, int32_t imm, unsigned offset) {
    return (format == B || format == J) && (uint32_t)((int32_t)offset + imm) < PAGE_BYTES;
}

// Gives the index of the handler.
static unsigned decode_form(const board *b, uint32_t raw, unsigned offset, bool far, operation *out) {
    bool wide = (raw & 3) == 3;
    uint32_t word = wide ? raw : decode_expand(b, (uint16_t)raw);
    unsigned op = word ? decode_opcode(b, word) : OP_illegal;
    unsigned format = instructions[op].format;
    if ((format == FR || format == R4) && (word >> 12 & 7) - 5 < 2)
        op = OP_illegal; // reserved rounding modes
    int32_t imm = immediate(word, format);
    far = far || !near_target(format, imm, offset);
    bool jumps = format == B || format == J;
    unsigned rd = bits(word, 11, 7, 0);
    if (rd == 0 && instructions[op].operands[0] == 'r') rd = 32;
    unsigned form = op * 4 + (wide ? 1 : 0) + (far && jumps ? 2 : 0);
    out->handler = interpreter_handlers()[form];
    out->imm = jumps && !far ? imm * (int32_t)(sizeof(operation) / 2) : imm;
    out->rd = (uint8_t)rd;
    out->rs1 = (uint8_t)bits(word, 19, 15, 0);
    out->rs2 = (uint8_t)bits(word, 24, 20, 0);
    out->n = instructions[op].ends_block ? 1 : 2;
    return form;
}

void decode_operation(const board *b, uint32_t raw, unsigned offset, bool far, operation *out) {
    decode_form(b, raw, offset, far, out);
}

// blocks

static uint16_t half_at(const code_page *page, unsigned slot) {
    uint16_t half;
    memcpy(&half, page->host + slot * 2, sizeof half);
    return half;
}

code_page *code_new(const board *b, const uint8_t *host) {
    code_page *page = pool_take_one(b->pool, BLOCK_CODE);
    if (!page) return NULL;
    page->hot = b->cache ? (hot_page *)(page + 1) : NULL;
    if (page->hot) {
        memset(page->hot, 0, sizeof *page->hot);
        memset(page->hot->forms, 0xff, sizeof page->hot->forms);
        page->hot->generation = __atomic_load_n(&b->cache->generation, __ATOMIC_ACQUIRE);
    }
    const void *const *handlers = interpreter_handlers();
    page->host = host;
    page->next = NULL;
    for (unsigned slot = 0; slot < PAGE_SLOTS; slot++)
        page->operations[slot] = (operation){.handler = handlers[OP_UNDECODED * 4]};
    page->operations[PAGE_SLOTS] = page->operations[PAGE_SLOTS + 1] =
        (operation){.handler = handlers[OP_PAGE_END * 4]};
    return page;
}

void code_free(const board *b, code_page *page) {
    if (page->hot) hot_free(b->cache, page->hot);
    pool_give_one(b->pool, BLOCK_CODE, page);
}

// Other threads may be reading this page.
static void publish(const board *b, code_page *page, unsigned slot, const operation *from, unsigned form) {
    operation *to = &page->operations[slot];
    const void *handler = from->handler;
    to->imm = from->imm;
    to->rd = from->rd, to->rs1 = from->rs1, to->rs2 = from->rs2;
    to->n = from->n;
    if (page->hot) {
        __atomic_store_n(&page->hot->forms[slot], (uint16_t)form, __ATOMIC_RELEASE);
        bool warm = page->hot->heat[slot] && b->translating && host_translates(form >> 2);
        if (warm) handler = interpreter_handlers()[OP_WARM * 4];
    }
    __atomic_store_n(&to->handler, handler, __ATOMIC_RELEASE);
}

// Blocks start where decoding does, and at the targets of branches.
static void mark_starts(const board *b, code_page *page, unsigned first, const operation *last, unsigned slot,
                        unsigned form) {
    if (!page->hot || !b->translating) return;
    hot_mark(b, page, first);
    unsigned format = form >> 2 < OP_COUNT ? instructions[form >> 2].format : N;
    if ((format == B || format == J) && !(form & 2))
        hot_mark(b, page, (unsigned)((int)slot + last->imm / (int)sizeof(operation)));
}

// Decode from `slot` to the end of its block (or to what is decoded already), then count backwards.
void decode_block(const board *b, code_page *page, unsigned slot) {
    const void *undecoded = interpreter_handlers()[OP_UNDECODED * 4];
    const void *step = interpreter_handlers()[OP_STEP * 4];
    operation block[PAGE_SLOTS];
    uint16_t slots[PAGE_SLOTS], forms[PAGE_SLOTS];
    unsigned count = 0, first = slot;
    while (slot < PAGE_SLOTS && page->operations[slot].handler == undecoded) {
        uint32_t raw = half_at(page, slot);
        bool wide = (raw & 3) == 3;
        operation *out = &block[count];
        forms[count] = OP_STEP * 4;
        slots[count++] = (uint16_t)slot;
        if (wide && slot == PAGE_SLOTS - 1) {
            *out = (operation){.handler = step};
            break;
        }
        if (wide) raw |= (uint32_t)half_at(page, slot + 1) << 16;
        forms[count - 1] = (uint16_t)decode_form(b, raw, slot * 2, false, out);
        slot += wide ? 2 : 1;
        if (out->n == 1) break;
    }
    unsigned next = slot < PAGE_SLOTS ? page->operations[slot].n : 0;
    for (unsigned i = count; i-- > 0;) {
        operation *out = &block[i];
        if (out->handler == step)
            out->n = 0;
        else if (out->n != 1)
            out->n = (uint8_t)(next + 1);
        if (out->n == 0) out->handler = step, forms[i] = OP_STEP * 4; // 255 + 1: this one goes alone
        next = out->n;
        publish(b, page, slots[i], out, forms[i]);
    }
    if (count) mark_starts(b, page, first, &block[count - 1], slots[count - 1], forms[count - 1]);
}

// Does what stands here count on what follows it? The last operation of a block does not.
static bool runs_on(const board *b, const code_page *page, unsigned slot, bool wide) {
    uint32_t raw = half_at(page, slot);
    operation again;
    if (page->operations[slot].n != 1) return true;
    if (wide) raw |= (uint32_t)half_at(page, slot + 1) << 16;
    decode_operation(b, raw, slot * 2, false, &again);
    return again.n != 1;
}

// Operands and count stay: the operation that is storing to its own block may need them still, and whoever
// enters at it gets the charge back (see `undecoded` in interpret.c).
static void forget(const board *b, code_page *page, unsigned slot) {
    page->operations[slot].handler = interpreter_handlers()[OP_UNDECODED * 4];
    if (page->hot) hot_forget(b->cache, page, slot);
}

// Forget what was decoded from these bytes, and every block that runs into them.
void code_invalidate(const board *b, code_page *page, unsigned offset, unsigned length) {
    const void *undecoded = interpreter_handlers()[OP_UNDECODED * 4];
    int first = (int)(offset >> 1) - 1, last = (int)((offset + length - 1) >> 1);
    if (first < 0) first = 0;
    for (int slot = first; slot <= last; slot++) forget(b, page, (unsigned)slot);
    bool after = true, after2 = true; // were slot + 1 and slot + 2 forgotten?
    for (int slot = first - 1; slot >= 0 && (after || after2); slot--) {
        operation *o = &page->operations[slot];
        bool wide = (half_at(page, (unsigned)slot) & 3) == 3;
        bool runs_into =
            (wide ? after2 : after) && o->handler != undecoded && runs_on(b, page, (unsigned)slot, wide);
        if (runs_into) forget(b, page, (unsigned)slot);
        after2 = after;
        after = runs_into;
    }
}
