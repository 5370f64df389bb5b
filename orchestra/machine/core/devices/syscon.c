/* syscon.c: power off and reset, as Linux and OpenSBI know it from SiFive's test device. */
#include "../machine.h"

enum { FAIL = 0x3333, PASS = 0x5555, RESET = 0x7777 };
enum { RESET_CODE = 128 }; // a machine does not restart itself; the host may

bool syscon_load(machine *m, uint64_t offset, unsigned size, uint64_t *value) {
    (void)m, (void)offset, (void)size;
    *value = 0;
    return true;
}

bool syscon_store(machine *m, uint64_t offset, unsigned size, uint64_t value) {
    if (offset != 0 || size == 1) return true;
    unsigned command = value & 0xffff;
    if (command != FAIL && command != PASS && command != RESET) return true;
    m->s.halted = 1;
    m->s.stop_reason = STOP_HALTED;
    m->s.stop_data = command == PASS ? 0 : command == RESET ? RESET_CODE : (value >> 16 & 0xffff);
    if (command == FAIL && m->s.stop_data == 0) m->s.stop_data = 1;
    m->attention = true;
    return true;
}
