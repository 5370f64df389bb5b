/* translate.c: a run of blocks of one page becomes host code; translate_<host>.c has the templates.
 *
 * Every block begins by taking its instructions from the budget. A run follows the guest's own order: behind
 * a branch comes what follows it, behind a jump its target, until that is translated already, was never
 * decoded, or the run is long. Jumps to what has no translation go to a stub that leaves, and are aimed at
 * the translation when it is made.
 */
#include "machine.h"

bool has_template(unsigned opcode) {
    static const bool templates[OP_TOTAL] = {
#define INTEGER(name, ...) [OP_##name] = true,
#define MEMORY(name, ...)  [OP_##name] = true,
#define FLOAT(name, ...)   [OP_##name] = true,
#define ROUNDED(name, ...) [OP_##name] = true,
#define BRANCH(name, ...)  [OP_##name] = true,
#define JUMP(name)         [OP_##name] = true,
#define NOTHING(name)      [OP_##name] = true,
#define SYSTEM(name)       [OP_##name] = true,
#include "templates.def"
    };
    return templates[opcode];
}

// Of an instruction with a rounding mode, after frm was found to be that.
bool rounds_to_nearest(const operation *o) {
    enum { DYNAMIC = 7 };
    return (o->imm & 7) == FLOAT_RNE || (o->imm & 7) == DYNAMIC;
}

// What a jump of the host does: `slot` is where it goes or where the interpreter goes on.
void run_jump_to(assembly *a, unsigned kind, unsigned slot) {
    uint32_t place = (uint32_t)(a->at - a->cache->writable);
    a->jumps[a->jump_count++] = (run_jump){.place = place,
                                           .resume = place + 4,
                                           .slot = (uint16_t)slot,
                                           .kind = (uint8_t)kind,
                                           .done = (uint8_t)a->done,
                                           .block = (uint16_t)(a->block_count - 1)};
}

// That jump's call comes back to here.
void run_resume(assembly *a, unsigned jump) {
    a->jumps[jump].resume = (uint32_t)(a->at - a->cache->writable);
}

// The host instruction that comes now may fault.
void run_site(assembly *a) {
    uint32_t place = (uint32_t)(a->at - a->cache->writable);
    a->sites[a->site_count++] = (code_site){place, (uint16_t)a->slot, (uint16_t)a->done};
}

static unsigned form_at(const code_page *page, unsigned slot) {
    return slot < PAGE_SLOTS ? __atomic_load_n(&page->hot->forms[slot], __ATOMIC_ACQUIRE) : FORM_NONE;
}

static bool can(unsigned form) { return form != FORM_NONE && host_translates(form >> 2); }

static uint32_t entry_of(const assembly *a, unsigned slot) {
    if (a->page->hot->entries[slot]) return a->page->hot->entries[slot];
    for (unsigned i = 0; i < a->block_count; i++)
        if (a->blocks[i].slot == slot) return a->blocks[i].entry;
    return 0;
}

static bool starts_block(const assembly *a, unsigned slot) {
    return a->page->hot->heat[slot] || entry_of(a, slot);
}

// The instruction whose code comes now.
void run_step(assembly *a, unsigned slot, unsigned slots) {
    a->slot = slot;
    a->slots = slots;
    for (unsigned slot = a->slot; slot < a->slot + a->slots; slot++)
        a->page->hot->covered[slot / 8] |= (uint8_t)(1 << slot % 8);
}

static void close_block(assembly *a) {
    a->blocks[a->block_count - 1].length = (uint16_t)a->done;
    host_charge(a, a->blocks[a->block_count - 1].entry, a->done);
    for (unsigned i = a->first_site; i < a->site_count; i++)
        a->sites[i].back = (uint16_t)(a->done - a->sites[i].back);
    a->first_site = a->site_count;
}

static void open_block(assembly *a, unsigned slot) {
    uint32_t entry = (uint32_t)(a->at - a->cache->writable);
    a->blocks[a->block_count].entry = entry;
    a->blocks[a->block_count++].slot = (uint16_t)slot;
    a->done = 0;
    a->float_ready = false;
    host_begin(a);
    run_jump_to(a, LEAVE_TAIL, slot);
    a->at += 4;
}

// Is it one more access to the group?
static bool joins(access_group *g, const operation *o, unsigned slot, unsigned form) {
    const instruction *i = &instructions[form >> 2];
    unsigned major = i->match & 0x7f, bytes = 1u << (i->match >> 12 & 3);
    if ((major != 0x03 && major != 0x23) || g->count == GROUP_ACCESSES) return false;
    if (g->count) {
        const operation *before = g->members[g->count - 1].operation;
        if (g->stores != (major == 0x23) || before->rs1 != o->rs1 || (!g->stores && before->rd == o->rs1))
            return false;
    }
    int32_t low = g->count && g->low < o->imm ? g->low : o->imm, end = o->imm + (int32_t)bytes;
    int32_t high = g->count && g->high > end ? g->high : end;
    if (high - low > PAGE_BYTES / 4) return false;
    g->stores = major == 0x23;
    g->low = low, g->high = high;
    g->members[g->count].operation = o;
    g->members[g->count].slot = (uint16_t)slot;
    g->members[g->count].is_signed = !(i->match >> 14 & 1);
    g->members[g->count].slots = form & 1 ? 2 : 1;
    g->members[g->count++].bytes = (uint8_t)bytes;
    return true;
}

// One look at the TLB does for all of a function's registers that go to its stack.
static bool group_at(assembly *a, unsigned slot, unsigned form) {
    access_group g = {.count = 0};
    do {
        if (!joins(&g, &a->page->operations[slot], slot, form)) break;
        slot += form & 1 ? 2 : 1;
        form = form_at(a->page, slot);
    } while (can(form) && a->done + g.count < BLOCK_INSTRUCTIONS && !starts_block(a, slot));
    if (g.count < 2) return false;
    host_group(a, &g);
    a->slot = g.members[g.count - 1].slot + g.members[g.count - 1].slots;
    return true;
}

enum { GOES_ON, JUMPS, ENDS };

// Translate the instruction at `slot`; the next one's slot is left in a->slot.
static int instruction_at(assembly *a, unsigned slot, unsigned form) {
    const operation *o = &a->page->operations[slot];
    unsigned opcode = form >> 2, format = instructions[opcode].format, after;
    bool far = form & 2;
    if (group_at(a, slot, form)) return GOES_ON;
    run_step(a, slot, form & 1 ? 2 : 1);
    after = slot + a->slots;
    if (opcode == OP_jal) {
        int64_t offset = far ? o->imm : o->imm / 8;
        a->done++;
        host_link(a, o);
        close_block(a);
        if (far) host_jump_far(a, (int64_t)slot * 2 + offset);
        a->slot = (unsigned)((int64_t)slot + offset / 2);
        return far ? ENDS : JUMPS;
    }
    if (opcode == OP_jalr) {
        a->done++;
        host_jump_register(a, o);
        close_block(a);
        return ENDS;
    }
    if (format == instructions[OP_beq].format) {
        a->done++;
        host_branch(a, opcode, o, far);
        close_block(a);
        a->slot = after;
        return JUMPS;
    }
    host_operation(a, opcode, o);
    if (instructions[opcode].ends_block) a->float_ready = false; // it may have been switched off
    a->done++;
    a->slot = after;
    if (opcode == OP_ecall || opcode == OP_sret || opcode == OP_mret) { // nothing comes back from the call
        close_block(a);
        return ENDS;
    }
    return GOES_ON;
}

static void leave_at(assembly *a, unsigned kind, unsigned slot) {
    if (slot >= PAGE_SLOTS)
        host_jump_far(a, (int64_t)slot * 2);
    else {
        host_jump(a, slot);
        a->jumps[a->jump_count - 1].kind = (uint8_t)kind;
        a->jumps[a->jump_count - 1].done = BLOCK_DONE;
    }
}

static void translate_run(assembly *a, unsigned slot) {
    for (unsigned total = 0;;) {
        unsigned form = form_at(a->page, slot);
        bool ends = total >= RUN_INSTRUCTIONS - BLOCK_INSTRUCTIONS || a->block_count == RUN_BLOCKS;
        if (slot >= PAGE_SLOTS || ends || form == FORM_NONE || entry_of(a, slot))
            return leave_at(a, LEAVE_PLAIN, slot);
        if (!can(form)) return leave_at(a, LEAVE_SIDE, slot);
        open_block(a, slot);
        int next;
        do {
            next = instruction_at(a, slot, form);
            slot = a->slot;
            form = form_at(a->page, slot);
        } while (next == GOES_ON && can(form) && a->done < BLOCK_INSTRUCTIONS && !starts_block(a, slot));
        if (next == GOES_ON) close_block(a);
        total += a->done;
        if (next == ENDS) return;
    }
}

static bool add_link(hot_page *hot, uint32_t place, unsigned slot) {
    if (hot->link_count == hot->link_capacity) {
        uint32_t capacity = hot->link_capacity ? hot->link_capacity * 2 : 16;
        code_link *links = realloc(hot->links, capacity * sizeof *links);
        if (!links) return false;
        hot->links = links;
        hot->link_capacity = capacity;
    }
    hot->links[hot->link_count++] = (code_link){place, (uint16_t)slot, 0};
    return true;
}

static void finish_jumps(assembly *a) {
    for (unsigned i = 0; i < a->jump_count; i++) {
        const run_jump *j = &a->jumps[i];
        uint32_t target = j->kind == LEAVE_PLAIN ? entry_of(a, j->slot) : 0;
        if (!target) {
            unsigned back = j->kind == LEAVE_PLAIN  ? 0
                            : j->kind == LEAVE_TAIL ? a->blocks[j->block].length
                            : j->done == BLOCK_DONE ? 0
                                                    : a->blocks[j->block].length - j->done;
            unsigned where = j->slot | (unsigned)j->count << HELP_COUNT_SHIFT;
            target = host_stub(a->cache, j->kind, where, back, j->resume);
            if (j->kind == LEAVE_PLAIN) add_link(a->page->hot, j->place, j->slot);
        }
        host_aim(a->cache, j->place, target);
    }
}

static void finish_sites(assembly *a) {
    codecache *c = a->cache;
    memcpy(c->sites + c->site_count, a->sites, a->site_count * sizeof *a->sites);
    c->site_count += a->site_count;
}

static void publish(assembly *a) {
    hot_page *hot = a->page->hot;
    for (unsigned i = 0; i < a->block_count; i++) {
        unsigned slot = a->blocks[i].slot;
        for (uint32_t k = 0; k < hot->link_count;)
            if (hot->links[k].slot == slot) {
                host_aim(a->cache, hot->links[k].place, a->blocks[i].entry);
                hot->links[k] = hot->links[--hot->link_count];
            } else {
                k++;
            }
        __atomic_store_n(&hot->entries[slot], a->blocks[i].entry, __ATOMIC_RELEASE);
    }
}

static bool has_room(codecache *c) {
    enum { RUN_BYTES = RUN_INSTRUCTIONS * 256, STUB_BYTES = RUN_JUMPS * 24, DEAD_BYTES = 4 << 20 };
    uint32_t dead = __atomic_load_n(&c->dead, __ATOMIC_RELAXED), left = c->cold - c->hot;
    if (left < RUN_BYTES + STUB_BYTES || (dead > DEAD_BYTES && dead > (c->top - c->first - left) / 2)) {
        c->full = 1;
        return false;
    }
    if (c->site_capacity - c->site_count < RUN_INSTRUCTIONS) {
        uint32_t capacity = c->site_capacity ? c->site_capacity * 2 : 4096;
        code_site *sites = realloc(c->sites, capacity * sizeof *sites);
        if (!sites) return false;
        c->sites = sites;
        c->site_capacity = capacity;
    }
    return true;
}

// Give the entry for the block at `slot`; 0: it stays with the interpreter for now.
uint32_t translation_make(machine *m, code_page *page, unsigned slot) {
    codecache *c = m->home->cache;
    hot_page *hot = page->hot;
    assembly a;
    codecache_lock(c);
    uint32_t entry = hot->entries[slot];
    if (!entry && !c->full && has_room(c)) {
        a.cache = c;
        a.page = page;
        uint32_t start = c->hot, cold = c->cold;
        a.at = c->writable + start;
        a.jump_count = a.site_count = a.block_count = a.first_site = 0;
        translate_run(&a, slot);
        c->hot = (uint32_t)(a.at - c->writable);
        finish_jumps(&a);
        finish_sites(&a);
        host_publish(c, start, c->hot);
        publish(&a);
        hot->bytes += c->hot - start + cold - c->cold;
        entry = hot->entries[slot];
    }
    codecache_unlock(c);
    return entry;
}

int translation_run(machine *m, uint32_t entry, tlb_entry *tlb) {
    const codecache *c = m->home->cache;
    int (*enter)(machine *, const uint8_t *);
    const uint8_t *code = c->executable + c->enter;
    memcpy(&enter, &code, sizeof enter);
    m->bank = tlb;
    int left = enter(m, c->executable + entry);
    if (m->float_ready) host_gather_flags(m, m->float_status);
    return left;
}

// The host faulted in a translation, with these registers: stand before the guest's instruction.
bool translation_unwind(machine *m, const uint64_t *registers) {
    codecache *c = m->home->cache;
    if (!m->in_cache || !registers || !c->length) return false;
    uint64_t place = registers[HOST_PC] - (uintptr_t)c->executable;
    if (place >= c->length) return false;
    codecache_lock(c);
    const code_site *found = codecache_site(c, (uint32_t)place);
    code_site site = found ? *found : (code_site){0};
    codecache_unlock(c);
    host_unspill(m, registers);
    m->budget += site.back;
    m->s.pc = m->page + 2ull * site.slot;
    return true;
}
