// main.c: serves the ledger to the host, one request after another, and reports the processor's traps.
#include "ledger.h"
#include "orchestra.h"

static struct ledger ledger; // zero at reset, as a loader leaves it

static void output(void *context, const void *data, size_t length) {
    (void)context;
    orchestra_output(data, length);
}

static void report(void *context, const void *data, size_t length) {
    (void)context;
    orchestra_report(data, length);
}

static void progress(void *context, uint32_t permille) {
    (void)context;
    orchestra_progress(permille);
}

static void end(const struct ledger_reply *reply, struct orchestra_request *request) {
    switch (reply->verdict) {
    case LEDGER_EXCEPTION: orchestra_exception(reply->text, reply->length, request); return;
    case LEDGER_HALT: orchestra_halt(reply->code);
    case LEDGER_CRASH: __builtin_trap();
    case LEDGER_REJECTED: orchestra_finish(ORCHESTRA_REJECT, request); return;
    case LEDGER_ACCEPTED: break;
    }
    orchestra_finish(ORCHESTRA_ACCEPT, request);
}

void serve(void) {
    static const struct ledger_host host = {NULL, output, report, progress};
    struct orchestra_request request;
    struct ledger_reply reply = {.verdict = LEDGER_ACCEPTED}; // the first one says: ready
    for (;;) {
        end(&reply, &request);
        if (request.kind > ORCHESTRA_INSPECT || request.length > ORCHESTRA_BUFFER_BYTES) {
            static const char why[] = "the host's response is neither an advance nor an inspect";
            reply = (struct ledger_reply){LEDGER_EXCEPTION, 0, sizeof why - 1, why};
            continue;
        }
        int kind = request.kind == ORCHESTRA_ADVANCE ? LEDGER_ADVANCE : LEDGER_INSPECT;
        ledger_serve(&ledger, &host, kind, request.data, request.length, &reply);
    }
}

static char *add_hexadecimal(char *at, const char *label, uint64_t value) {
    while (*label) *at++ = *label++;
    for (int shift = 60; shift >= 0; shift -= 4) *at++ = "0123456789abcdef"[value >> shift & 15];
    return at;
}

// Called by start.S, on a stack of its own: the machine is not to be trusted any more.
void trapped(uint64_t mcause, uint64_t mepc, uint64_t mtval) {
    char text[96], *at = text;
    at = add_hexadecimal(at, "trap: mcause 0x", mcause);
    at = add_hexadecimal(at, ", mepc 0x", mepc);
    at = add_hexadecimal(at, ", mtval 0x", mtval);
    orchestra_exception(text, (size_t)(at - text), NULL);
    orchestra_halt(128 + (uint32_t)(mcause & 63));
}
