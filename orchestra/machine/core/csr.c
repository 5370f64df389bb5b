/* csr.c: control and status registers; csr.def is their table. */
#include "machine.h"

#define MISA                                                                                                 \
    (2ull << 62 | 1 << 0 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 8 | 1 << 12 | 1 << 18 | 1 << 20) // ACDFIMSU
#define SSTATUS_WRITE (MSTATUS_SIE | MSTATUS_SPIE | MSTATUS_SPP | MSTATUS_FS | MSTATUS_SUM | MSTATUS_MXR)
#define SSTATUS_READ  (SSTATUS_WRITE | MSTATUS_UXL | MSTATUS_SD)
#define MSTATUS_WRITE                                                                                        \
    (SSTATUS_WRITE | MSTATUS_MIE | MSTATUS_MPIE | MSTATUS_MPP | MSTATUS_MPRV | MSTATUS_TVM | MSTATUS_TW |    \
     MSTATUS_TSR)
enum { SATP_SV39 = 8 };

static uint64_t status_read(const state *s) {
    return s->mstatus | MSTATUS_UXL | MSTATUS_SXL |
           ((s->mstatus & MSTATUS_FS) == MSTATUS_FS ? MSTATUS_SD : 0);
}

static void status_write(machine *m, uint64_t value) {
    state *s = &m->s;
    if ((value >> 11 & 3) == 2) value &= ~MSTATUS_MPP; // there is no mode 2
    uint64_t changed = (s->mstatus ^ value) & MSTATUS_WRITE;
    s->mstatus ^= changed;
    if (changed & MSTATUS_MXR) mmu_flush(m);
    if (changed & ~(MSTATUS_FS | MSTATUS_SPP | MSTATUS_SPIE | MSTATUS_MPIE)) m->attention = true;
}

static void dirty_float(state *s) { s->mstatus |= MSTATUS_FS; }

static void sip_write(machine *m, uint64_t value) {
    uint64_t mask = m->s.mideleg & (1ull << IRQ_SSI);
    m->s.mip = (m->s.mip & ~mask) | (value & mask);
    m->attention = true;
}

static void satp_write(machine *m, uint64_t value) {
    uint64_t mode = value >> 60;
    if (mode != 0 && mode != SATP_SV39) return;
    value &= 0xf0000fffffffffffull; // no ASIDs
    if (value == m->s.satp) return;
    m->s.satp = value;
    m->attention = true;
}

// What of menvcfg and senvcfg exists; bit 0 is FIOM.
static uint64_t environment(const machine *m, uint64_t value) {
    uint32_t extensions = m->home->decoder->extensions;
    uint64_t mask = 1;
    if (extensions & EXTENSION_sstc) mask |= MENVCFG_STCE;
    if (extensions & EXTENSION_zicbom) mask |= ENVCFG_CBIE | ENVCFG_CBCFE;
    if (extensions & EXTENSION_zicboz) mask |= ENVCFG_CBZE;
    if ((value & ENVCFG_CBIE) == 2 << 4) mask &= ~ENVCFG_CBIE; // reserved
    return value & mask;
}

bool csr_environment(const machine *m, uint64_t bits) {
    const state *s = &m->s;
    if (s->privilege < PRIVILEGE_M && !(s->menvcfg & bits)) return false;
    return s->privilege > PRIVILEGE_U || (s->senvcfg & bits);
}

static bool stimecmp_access(const machine *m) {
    if (!(m->home->decoder->extensions & EXTENSION_sstc)) return false;
    return m->s.privilege == PRIVILEGE_M || ((m->s.menvcfg & MENVCFG_STCE) && (m->s.mcounteren & 2));
}

const char *csr_name(unsigned number) {
    switch (number) {
#define CSR(number, name, read, ...)                                                                         \
    case number:                                                                                             \
        return #name;
#include "csr.def"
#undef CSR
    }
    return NULL;
}

int csr_number(const char *wanted) {
#define CSR(number, name, read, ...)                                                                         \
    if (!strcmp(wanted, #name)) return number;
#include "csr.def"
#undef CSR
    return -1;
}

static bool is_event_counter(unsigned number) { // they exist, and count nothing
    return (number >= 0xb03 && number <= 0xb1f) || (number >= 0x323 && number <= 0x33f);
}

bool csr_access(machine *m, unsigned number, bool writes) {
    const state *s = &m->s;
    if (!csr_name(number) && !is_event_counter(number)) return false;
    if (writes && number >> 10 == 3) return false;
    if (s->privilege < (number >> 8 & 3)) return false;
    if (number < 4 && !(s->mstatus & MSTATUS_FS)) return false;
    if (number == 0x180 && s->privilege == PRIVILEGE_S && (s->mstatus & MSTATUS_TVM)) return false;
    if (number == 0x14d && !stimecmp_access(m)) return false;
    if (number >= 0xc00 && number <= 0xc1f) {
        uint64_t bit = 1ull << (number & 31);
        if (s->privilege < PRIVILEGE_M && !(s->mcounteren & bit)) return false;
        if (s->privilege < PRIVILEGE_S && !(s->scounteren & bit)) return false;
    }
    return true;
}

bool csr_read(machine *m, unsigned number, uint64_t *value) {
    state *s = &m->s;
    switch (number) {
#define CSR(number, name, read, ...)                                                                         \
    case number:                                                                                             \
        *value = read;                                                                                       \
        return true;
#include "csr.def"
#undef CSR
    }
    *value = 0;
    return is_event_counter(number);
}

bool csr_write(machine *m, unsigned number, uint64_t v) {
    state *s = &m->s;
    switch (number) {
#define CSR(number, name, read, ...)                                                                         \
    case number:                                                                                             \
        __VA_ARGS__;                                                                                         \
        return true;
#include "csr.def"
#undef CSR
    }
    return is_event_counter(number);
}
