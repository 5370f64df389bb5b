// ledger.c: the ledger's commands: mint, transfer, burn, balance, history ...; and some that only use up a
// machine.
#include "ledger.h"

enum { WORDS = 4 };

struct call {
    struct ledger *ledger;
    const struct ledger_host *host;
    struct ledger_reply *reply;
    uint32_t command;
    size_t count; // words, the command's name included
    struct word words[WORDS];
    struct word rest; // all behind the command's name and one space, unparsed
};

struct command {
    const char *name;
    int kinds;    // LEDGER_ADVANCE | LEDGER_INSPECT
    size_t words; // exactly; 0: the rest is free text
    void (*run)(struct call *call);
    const char *usage;
};

// ---- answers

static void send_report(struct call *call) {
    call->host->report(call->host->context, call->ledger->text.bytes, call->ledger->text.length);
    call->ledger->text.length = 0;
}

static void send_output(struct call *call) {
    call->host->output(call->host->context, call->ledger->text.bytes, call->ledger->text.length);
    call->ledger->text.length = 0;
}

// Sends the list so far when it is long; the rest goes with send_rest.
static void end_line(struct call *call) {
    text_add(&call->ledger->text, "\n");
    if (call->ledger->text.length >= TEXT_FULL) send_report(call);
}

static void send_rest(struct call *call) {
    if (call->ledger->text.length) send_report(call);
}

static void refuse(struct call *call, const char *why, const struct word *about) {
    struct ledger *ledger = call->ledger;
    call->reply->verdict = LEDGER_REJECTED;
    text_add(&ledger->text, why);
    if (about) {
        text_add(&ledger->text, ": ");
        text_add_bytes(&ledger->text, about->at, about->length < 64 ? about->length : 64);
    }
    send_report(call);
}

// Reads word `index` as a number from `least` up; refuses and returns 0 when it is not one.
static int number(struct call *call, size_t index, uint64_t least, uint64_t *value) {
    const struct word *word = &call->words[index];
    switch (word_number(word, value)) {
    case WORD_NO_NUMBER: return refuse(call, "not a number", word), 0;
    case WORD_TOO_LARGE: return refuse(call, "number too large", word), 0;
    default: break;
    }
    if (*value < least) return refuse(call, "number too small", word), 0;
    return 1;
}

// ---- accounts

static uint32_t *slot_of(struct ledger *ledger, const struct word *name) {
    uint64_t hash = 0xcbf29ce484222325; // FNV-1a
    for (size_t i = 0; i < name->length; i++) hash = (hash ^ (uint8_t)name->at[i]) * 0x100000001b3;
    for (uint64_t at = hash ^ hash >> 32;; at++) {
        uint32_t *slot = &ledger->slots[at % LEDGER_SLOTS];
        if (!*slot) return slot;
        if (word_is(name, ledger->accounts[*slot - 1].name)) return slot;
    }
}

static int good_name(struct call *call, const struct word *name) {
    if (name->length < LEDGER_NAME_BYTES) return 1;
    refuse(call, "name longer than 23 bytes", name);
    return 0;
}

static struct ledger_account *find(struct call *call, size_t index) {
    const struct word *name = &call->words[index];
    if (!good_name(call, name)) return NULL;
    uint32_t *slot = slot_of(call->ledger, name);
    if (*slot) return &call->ledger->accounts[*slot - 1];
    refuse(call, "no such account", name);
    return NULL;
}

static struct ledger_account *find_or_make(struct call *call, const struct word *name) {
    struct ledger *ledger = call->ledger;
    if (!good_name(call, name)) return NULL;
    uint32_t *slot = slot_of(ledger, name);
    if (*slot) return &ledger->accounts[*slot - 1];
    if (ledger->count == LEDGER_ACCOUNTS) return refuse(call, "no room for another account", name), NULL;
    struct ledger_account *account = &ledger->accounts[ledger->count++];
    *slot = ledger->count;
    for (size_t i = 0; i < name->length; i++) account->name[i] = name->at[i];
    return account;
}

static void add_balance(struct ledger *ledger, const struct ledger_account *account) {
    text_add(&ledger->text, account->name);
    text_add(&ledger->text, " ");
    text_add_number(&ledger->text, account->balance);
}

static void add_entry(struct ledger *ledger, uint64_t operation);

// Notes the operation and sends its receipt: "3 transfer alice bob 30".
static void done(struct call *call, struct ledger_account *from, struct ledger_account *to, uint64_t amount) {
    struct ledger *ledger = call->ledger;
    struct ledger_entry *entry = &ledger->history[ledger->operations++ % LEDGER_HISTORY];
    entry->command = call->command;
    entry->from = (uint32_t)(from - ledger->accounts);
    entry->to = (uint32_t)(to - ledger->accounts);
    entry->amount = amount;
    add_entry(ledger, ledger->operations);
    send_output(call);
}

static void mint(struct call *call) {
    uint64_t amount;
    if (!number(call, 2, 1, &amount)) return;
    if (amount > UINT64_MAX - call->ledger->total) return refuse(call, "the total would overflow", NULL);
    struct ledger_account *account = find_or_make(call, &call->words[1]);
    if (!account) return;
    account->balance += amount; // cannot overflow: no balance is more than the total
    call->ledger->total += amount;
    done(call, account, account, amount);
}

static void burn(struct call *call) {
    uint64_t amount;
    struct ledger_account *account = find(call, 1);
    if (!account || !number(call, 2, 1, &amount)) return;
    if (account->balance < amount) return refuse(call, "insufficient balance", &call->words[1]);
    account->balance -= amount;
    call->ledger->total -= amount;
    done(call, account, account, amount);
}

static void transfer(struct call *call) {
    uint64_t amount;
    struct ledger_account *from = find(call, 1);
    if (!from || !number(call, 3, 1, &amount)) return;
    if (from->balance < amount) return refuse(call, "insufficient balance", &call->words[1]);
    struct ledger_account *to = find_or_make(call, &call->words[2]);
    if (!to) return;
    from->balance -= amount;
    to->balance += amount;
    done(call, from, to, amount);
}

// Mints to N accounts named account-<n>, in one operation each, with one receipt.
static void fill(struct call *call) {
    uint64_t accounts, amount;
    struct ledger *ledger = call->ledger;
    if (!number(call, 1, 1, &accounts) || !number(call, 2, 1, &amount)) return;
    if (accounts > LEDGER_ACCOUNTS - ledger->count) return refuse(call, "no room for them", NULL);
    if (amount > (UINT64_MAX - ledger->total) / accounts)
        return refuse(call, "the total would overflow", NULL);
    for (uint64_t i = 0; i < accounts; i++) {
        ledger->text.length = 0;
        text_add(&ledger->text, "account-");
        text_add_number(&ledger->text, i);
        struct word name = {ledger->text.bytes, ledger->text.length};
        find_or_make(call, &name)->balance += amount;
        ledger->total += amount;
    }
    ledger->text.length = 0;
    text_add(&ledger->text, "filled ");
    text_add_number(&ledger->text, accounts);
    send_output(call);
}

// ---- questions

static void balance(struct call *call) {
    struct ledger_account *account = find(call, 1);
    if (!account) return;
    text_add_number(&call->ledger->text, account->balance);
    send_report(call);
}

static void total(struct call *call) {
    text_add_number(&call->ledger->text, call->ledger->total);
    send_report(call);
}

static void count(struct call *call) {
    text_add_number(&call->ledger->text, call->ledger->count);
    send_report(call);
}

static void accounts(struct call *call) {
    struct ledger *ledger = call->ledger;
    for (uint32_t i = 0; i < ledger->count; i++) {
        add_balance(ledger, &ledger->accounts[i]);
        end_line(call);
    }
    send_rest(call);
}

static void history(struct call *call) {
    uint64_t wanted;
    struct ledger *ledger = call->ledger;
    if (!number(call, 1, 0, &wanted)) return;
    uint64_t kept = ledger->operations < LEDGER_HISTORY ? ledger->operations : LEDGER_HISTORY;
    if (wanted > kept) wanted = kept;
    for (uint64_t i = 0; i < wanted; i++) {
        add_entry(ledger, ledger->operations - i);
        end_line(call);
    }
    send_rest(call);
}

static void echo(struct call *call) {
    call->host->report(call->host->context, call->rest.at, call->rest.length);
}

// ---- what uses up, breaks or ends a machine

static void spin(struct call *call) {
    uint64_t times;
    if (!number(call, 1, 0, &times)) return;
    for (; times; times--) __asm__ volatile("" ::: "memory");
}

static void page(struct call *call) {
    uint64_t pages;
    if (!number(call, 1, 0, &pages)) return;
    if (pages > LEDGER_PAGES) return refuse(call, "number too large", &call->words[1]);
    for (uint64_t i = 0; i < pages; i++) call->ledger->pages[i][i % 512] += i + 1;
}

static void flood(struct call *call) {
    uint64_t reports;
    if (!number(call, 1, 0, &reports)) return;
    for (uint64_t i = 0; i < reports; i++) {
        text_add(&call->ledger->text, "flood ");
        text_add_number(&call->ledger->text, i);
        send_report(call);
    }
}

static void progress(struct call *call) {
    uint64_t steps;
    if (!number(call, 1, 1, &steps)) return;
    if (steps > 1000) return refuse(call, "number too large", &call->words[1]);
    for (uint64_t i = 1; i <= steps; i++)
        call->host->progress(call->host->context, (uint32_t)(i * 1000 / steps));
}

static void fail(struct call *call) {
    call->reply->verdict = LEDGER_EXCEPTION;
    call->reply->text = call->rest.at;
    call->reply->length = call->rest.length;
}

static void halt(struct call *call) {
    uint64_t code;
    if (!number(call, 1, 0, &code)) return;
    if (code > INT32_MAX) return refuse(call, "number too large", &call->words[1]);
    call->reply->verdict = LEDGER_HALT;
    call->reply->code = (uint32_t)code;
}

static void crash(struct call *call) { call->reply->verdict = LEDGER_CRASH; }

enum { BOTH = LEDGER_ADVANCE | LEDGER_INSPECT };

static const struct command commands[] = {
    {"mint", LEDGER_ADVANCE, 3, mint, "mint NAME AMOUNT"},
    {"burn", LEDGER_ADVANCE, 3, burn, "burn NAME AMOUNT"},
    {"transfer", LEDGER_ADVANCE, 4, transfer, "transfer FROM TO AMOUNT"},
    {"fill", LEDGER_ADVANCE, 3, fill, "fill ACCOUNTS AMOUNT"},
    {"balance", LEDGER_INSPECT, 2, balance, "balance NAME"},
    {"total", LEDGER_INSPECT, 1, total, "total"},
    {"count", LEDGER_INSPECT, 1, count, "count"},
    {"accounts", LEDGER_INSPECT, 1, accounts, "accounts"},
    {"history", LEDGER_INSPECT, 2, history, "history N"},
    {"echo", BOTH, 0, echo, "echo BYTES"},
    {"spin", BOTH, 2, spin, "spin ITERATIONS"},
    {"page", BOTH, 2, page, "page PAGES"},
    {"flood", BOTH, 2, flood, "flood REPORTS"},
    {"progress", BOTH, 2, progress, "progress STEPS"},
    {"fail", BOTH, 0, fail, "fail MESSAGE"},
    {"halt", BOTH, 2, halt, "halt CODE"},
    {"crash", BOTH, 1, crash, "crash"},
};
enum { COMMANDS = sizeof commands / sizeof commands[0], TRANSFER = 2 };

static void add_entry(struct ledger *ledger, uint64_t operation) {
    const struct ledger_entry *entry = &ledger->history[(operation - 1) % LEDGER_HISTORY];
    text_add_number(&ledger->text, operation);
    text_add(&ledger->text, " ");
    text_add(&ledger->text, commands[entry->command].name);
    text_add(&ledger->text, " ");
    text_add(&ledger->text, ledger->accounts[entry->from].name);
    text_add(&ledger->text, " ");
    if (entry->command == TRANSFER) {
        text_add(&ledger->text, ledger->accounts[entry->to].name);
        text_add(&ledger->text, " ");
    }
    text_add_number(&ledger->text, entry->amount);
}

// ---- requests

static int printable(char c) { return c > ' ' && c <= '~'; }

// Cuts the input into words at spaces; 0 when there are too many or a byte is not printable.
static int cut(struct call *call, struct word input) {
    for (size_t at = 0; at < input.length;) {
        size_t start = at;
        while (at < input.length && printable(input.at[at])) at++;
        if (at < input.length && input.at[at] != ' ') return refuse(call, "not printable ASCII", NULL), 0;
        if (at > start) {
            if (call->count == WORDS) return refuse(call, "too many words", NULL), 0;
            call->words[call->count++] = (struct word){input.at + start, at - start};
        }
        while (at < input.length && input.at[at] == ' ') at++;
    }
    return 1;
}

static void refuse_usage(struct call *call, const struct command *command) {
    struct word usage = word_of(command->usage);
    refuse(call, "usage", &usage);
}

// Finds the command and runs it on the rest of the input, or on its words.
static void run(struct call *call, int kind, struct word input) {
    struct word name = {input.at, 0};
    while (name.length < input.length && printable(input.at[name.length])) name.length++;
    const struct command *command = NULL;
    for (; call->command < COMMANDS && !command; call->command++)
        if (word_is(&name, commands[call->command].name)) command = &commands[call->command];
    call->command--;
    if (command && !(command->kinds & kind))
        return refuse(call, kind == LEDGER_ADVANCE ? "not an advance" : "not an inspect", &name);

    if (command && !command->words) {
        size_t behind = name.length + (name.length < input.length);
        if (behind > name.length && input.at[name.length] != ' ') return refuse_usage(call, command);
        call->rest = (struct word){input.at + behind, input.length - behind};
        return command->run(call);
    }
    if (input.length && input.at[input.length - 1] == '\n') input.length--;
    if (!cut(call, input)) return;
    if (!call->count) return refuse(call, "empty request", NULL);
    if (!command) return refuse(call, "unknown command", &call->words[0]);
    if (call->count != command->words) return refuse_usage(call, command);
    command->run(call);
}

void ledger_serve(struct ledger *ledger, const struct ledger_host *host, int kind, const uint8_t *input,
                  size_t length, struct ledger_reply *reply) {
    struct call call = {.ledger = ledger, .host = host, .reply = reply};
    *reply = (struct ledger_reply){.verdict = LEDGER_ACCEPTED};
    ledger->text.length = 0;
    while (length && *input == ' ') input++, length--;
    run(&call, kind, (struct word){(const char *)input, length});
}

uint64_t ledger_bytes(void) { return sizeof(struct ledger); }
