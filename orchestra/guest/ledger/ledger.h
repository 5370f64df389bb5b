// ledger.h: an account ledger behind a text protocol; knows nothing of the machine it runs on.
#ifndef LEDGER_H
#define LEDGER_H

#include <stddef.h>
#include <stdint.h>
#include "text.h"

enum {
    LEDGER_ACCOUNTS = 65536,            // at most
    LEDGER_SLOTS = 2 * LEDGER_ACCOUNTS, // of the hash table: a power of two, never more than half full
    LEDGER_NAME_BYTES = 24,             // with its final zero
    LEDGER_HISTORY = 4096,              // last operations kept
    LEDGER_PAGES = 4096,                // pages of 4 KiB that "page" may touch
    LEDGER_CHUNK_BYTES = 32768,         // longest list in one report
};

enum ledger_verdict { LEDGER_ACCEPTED, LEDGER_REJECTED, LEDGER_EXCEPTION, LEDGER_HALT, LEDGER_CRASH };

struct ledger_account {
    char name[LEDGER_NAME_BYTES];
    uint64_t balance;
};

struct ledger_entry {
    uint32_t command;  // index of the command
    uint32_t from, to; // indices of accounts
    uint64_t amount;
};

// All zero is the empty ledger. Accounts stay in the order of their making; slots hold an index + 1, or 0.
struct ledger {
    uint64_t total, operations;
    uint32_t count;
    uint32_t slots[LEDGER_SLOTS];
    struct ledger_account accounts[LEDGER_ACCOUNTS];
    struct ledger_entry history[LEDGER_HISTORY]; // operation n is at (n - 1) % LEDGER_HISTORY
    struct text text;                            // the line or list being built
    volatile uint64_t pages[LEDGER_PAGES][512];
};

// Where answers go; `context` is the caller's.
struct ledger_host {
    void *context;
    void (*output)(void *context, const void *data, size_t length);
    void (*report)(void *context, const void *data, size_t length);
    void (*progress)(void *context, uint32_t permille);
};

struct ledger_reply {
    enum ledger_verdict verdict;
    uint32_t code; // of LEDGER_HALT
    uint64_t length;
    const char *text; // of LEDGER_EXCEPTION, in the input
};

enum { LEDGER_ADVANCE = 1, LEDGER_INSPECT = 2 };

// Answers one request. Any bytes will do: what is not a command is rejected with a report that says why.
// A rejected request leaves accounts, history and total as they were.
void ledger_serve(struct ledger *ledger, const struct ledger_host *host, int kind, const uint8_t *input,
                  size_t length, struct ledger_reply *reply);

uint64_t ledger_bytes(void); // sizeof (struct ledger), for callers that are not C

#endif
