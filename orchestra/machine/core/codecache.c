/* codecache.c: the memory that translations are in, shared by all machines of the process.
 *
 * It fills from both ends. When it is full, or most of what is in it belongs to pages that are gone, it is
 * emptied once nobody is running in it: pages then find by its generation that their translations are gone,
 * and what is still hot is made again, which costs no more than making what is dead did. Writing and
 * executing go through two mappings of the same memory.
 */
#include "machine.h"

void codecache_lock(codecache *c) {
    while (__atomic_exchange_n(&c->lock, 1, __ATOMIC_ACQUIRE))
        while (__atomic_load_n(&c->lock, __ATOMIC_RELAXED)) {
        }
}

void codecache_unlock(codecache *c) { __atomic_store_n(&c->lock, 0, __ATOMIC_RELEASE); }

// Make a cache of memory that is zero, and stays with this process alone; NULL where there are no templates.
codecache *codecache_start(void *memory, uintptr_t writable, uintptr_t executable, uint64_t length) {
    codecache *c = memory;
    c->writable = (uint8_t *)writable;
    c->executable = (const uint8_t *)executable;
    c->generation = 1;
    c->top = c->cold = (uint32_t)length;
    if (!host_start(c)) return NULL;
    c->hot = c->first;
    c->length = (uint32_t)length;
    return c;
}

static void empty(codecache *c) {
    c->hot = c->first;
    c->cold = c->top;
    c->site_count = 0;
    c->full = 0;
    __atomic_store_n(&c->dead, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&c->generation, c->generation + 1, __ATOMIC_RELEASE);
}

// May the machine run translations now? If so, codecache_leave must follow.
bool codecache_enter(machine *m) {
    codecache *c = m->home->cache;
    if (!m->warmth || !c || !c->length) return false;
    codecache_lock(c);
    if (c->full && !c->users) empty(c);
    bool may = !c->full;
    c->users += may;
    uint32_t generation = c->generation;
    codecache_unlock(c);
    if (may && m->generation != generation) {
        mmu_flush(m);
        m->generation = generation;
    }
    m->code = c->executable;
    m->float_control = FLOAT_CONTROL;
    m->help = translation_help;
    return m->in_cache = may;
}

void codecache_leave(machine *m) {
    codecache *c = m->home->cache;
    if (!m->in_cache) return;
    m->in_cache = false;
    if (!c->length) return; // a forked child's
    codecache_lock(c);
    c->users--;
    codecache_unlock(c);
}

// Make way for whoever waits to empty the cache; come in when that was done.
void codecache_look(machine *m) {
    const codecache *c = m->home->cache;
    if (m->in_cache && likely(!__atomic_load_n(&c->full, __ATOMIC_RELAXED))) return;
    codecache_leave(m);
    codecache_enter(m);
}

// The guest instruction whose host code is at `place`; NULL: none.
const code_site *codecache_site(const codecache *c, uint32_t place) {
    uint32_t low = 0, high = c->site_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (c->sites[middle].place <= place)
            low = middle + 1;
        else
            high = middle;
    }
    return low ? &c->sites[low - 1] : NULL;
}

// what pages know of their translations

// Its translations are over; no lock, for it is only counted.
static void abandon(codecache *c, hot_page *hot) {
    if (hot->generation == __atomic_load_n(&c->generation, __ATOMIC_ACQUIRE))
        __atomic_add_fetch(&c->dead, hot->bytes, __ATOMIC_RELAXED);
    hot->bytes = 0;
}

static void drop(hot_page *hot) {
    for (unsigned slot = 0; slot < PAGE_SLOTS; slot++)
        __atomic_store_n(&hot->entries[slot], 0, __ATOMIC_RELAXED);
    memset(hot->covered, 0, sizeof hot->covered);
    hot->link_count = hot->bytes = 0;
}

// Nothing of the page's may be in an emptied cache.
void hot_renew(codecache *c, code_page *page) {
    hot_page *hot = page->hot;
    uint32_t generation = __atomic_load_n(&c->generation, __ATOMIC_ACQUIRE);
    if (likely(__atomic_load_n(&hot->generation, __ATOMIC_ACQUIRE) == generation)) return;
    codecache_lock(c);
    if (hot->generation != generation) drop(hot);
    __atomic_store_n(&hot->generation, generation, __ATOMIC_RELEASE);
    codecache_unlock(c);
}

// The instruction here is no more. The page is one machine's own, which stands in the interpreter.
void hot_forget(codecache *c, code_page *page, unsigned slot) {
    hot_page *hot = page->hot;
    hot->forms[slot] = FORM_NONE;
    if (!(hot->covered[slot / 8] >> (slot % 8) & 1)) return;
    abandon(c, hot);
    drop(hot);
    if (hot->drops < 4) hot->drops++;
    for (unsigned i = 0; i < PAGE_SLOTS; i++) hot->heat[i] = hot->heat[i] != 0;
}

// The page is no more.
void hot_free(codecache *c, hot_page *hot) {
    abandon(c, hot);
    free(hot->links);
}

// A block starts at this slot: from now on it is counted how often.
void hot_mark(const board *b, code_page *page, unsigned slot) {
    hot_page *hot = page->hot;
    if (!b->translating || __atomic_load_n(&hot->heat[slot], __ATOMIC_RELAXED)) return;
    __atomic_store_n(&hot->heat[slot], 1, __ATOMIC_RELAXED);
    uint16_t form = __atomic_load_n(&hot->forms[slot], __ATOMIC_ACQUIRE);
    if (form == FORM_NONE || !host_translates(form >> 2)) return;
    const void *const *handlers = interpreter_handlers();
    const void *expected = handlers[form];
    __atomic_compare_exchange_n(&page->operations[slot].handler, &expected, handlers[OP_WARM * 4], false,
                                __ATOMIC_RELEASE, __ATOMIC_RELAXED);
}
