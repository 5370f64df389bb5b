/* translate_none.c: hosts that have no templates: everything is interpreted. */
#include "machine.h"

#if !defined(__x86_64__) && !defined(__aarch64__)
bool host_translates(unsigned opcode) { return (void)opcode, false; }
bool host_start(codecache *c) { return (void)c, false; }
void host_publish(codecache *c, uint32_t from, uint32_t to) { (void)c, (void)from, (void)to; }
void host_begin(assembly *a) { (void)a; }
void host_charge(assembly *a, uint32_t entry, unsigned instructions) {
    (void)a, (void)entry, (void)instructions;
}
void host_operation(assembly *a, unsigned opcode, const operation *o) { (void)a, (void)opcode, (void)o; }
void host_group(assembly *a, const access_group *g) { (void)a, (void)g; }
void host_branch(assembly *a, unsigned opcode, const operation *o, bool far) {
    (void)a, (void)opcode, (void)o, (void)far;
}
void host_link(assembly *a, const operation *o) { (void)a, (void)o; }
void host_jump(assembly *a, unsigned slot) { (void)a, (void)slot; }
void host_jump_far(assembly *a, int64_t offset) { (void)a, (void)offset; }
void host_jump_register(assembly *a, const operation *o) { (void)a, (void)o; }
uint32_t host_stub(codecache *c, unsigned kind, unsigned slot, unsigned back, uint32_t resume) {
    return (void)c, (void)kind, (void)slot, (void)back, (void)resume, 0;
}
void host_aim(codecache *c, uint32_t place, uint32_t target) { (void)c, (void)place, (void)target; }
void host_gather_flags(machine *m, uint32_t status) { (void)m, (void)status; }
void host_unspill(machine *m, const uint64_t *registers) { (void)m, (void)registers; }
#endif
