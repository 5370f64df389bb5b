/* mix.c: what a small controller does: lists that are searched and sorted, integer matrices, a scanner, a
 * checksum. */
#include "kernels.h"

static uint16_t crc16(uint16_t crc, uint32_t value) {
    for (int bit = 0; bit < 16; bit++, value >>= 1)
        crc = (uint16_t)(crc >> 1 ^ ((crc ^ value) & 1 ? 0xa001 : 0));
    return crc;
}

/* a linked list: find, reverse, sort by merging */

typedef struct item {
    struct item *next;
    int16_t key, value;
} item;

enum { ITEMS = 200 };
static item items[ITEMS];

static item *make_list(uint32_t seed) {
    for (int i = 0; i < ITEMS; i++) {
        items[i].next = i + 1 < ITEMS ? &items[i + 1] : NULL;
        items[i].key = (int16_t)(next_random(&seed) >> 20);
        items[i].value = (int16_t)i;
    }
    return items;
}

static const item *find(const item *list, int value) {
    while (list && list->value != value) list = list->next;
    return list;
}

static item *reverse(item *list) {
    item *done = NULL;
    while (list) {
        item *next = list->next;
        list->next = done;
        done = list;
        list = next;
    }
    return done;
}

static int by_key(const item *a, const item *b) { return a->key - b->key; }
static int by_value(const item *a, const item *b) { return a->value - b->value; }

static item *merge(item *a, item *b, int (*order)(const item *, const item *)) {
    item head = {NULL, 0, 0}, *tail = &head;
    while (a && b) {
        item **least = order(a, b) <= 0 ? &a : &b;
        tail->next = *least;
        tail = *least;
        *least = tail->next;
    }
    tail->next = a ? a : b;
    return head.next;
}

static item *sort(item *list, int length, int (*order)(const item *, const item *)) {
    if (length < 2) return list;
    item *middle = list;
    for (int i = 1; i < length / 2; i++) middle = middle->next;
    item *rest = middle->next;
    middle->next = NULL;
    return merge(sort(list, length / 2, order), sort(rest, length - length / 2, order), order);
}

static uint16_t lists(uint16_t crc, uint32_t seed) {
    item *list = make_list(seed);
    for (int value = 0; value < ITEMS; value += 9) {
        const item *found = find(list, value);
        if (found) crc = crc16(crc, (uint16_t)found->key);
        list = reverse(list);
    }
    list = sort(list, ITEMS, by_key);
    crc = crc16(crc, (uint16_t)list->key);
    list = sort(list, ITEMS, by_value);
    return crc16(crc, (uint16_t)list->next->key);
}

/* matrices of 16-bit integers */

enum { ORDER = 14 };
static int16_t a[ORDER][ORDER], b[ORDER][ORDER];
static int32_t c[ORDER][ORDER];

static uint16_t matrices(uint16_t crc, uint32_t seed) {
    for (int i = 0; i < ORDER; i++)
        for (int j = 0; j < ORDER; j++) {
            a[i][j] = (int16_t)(next_random(&seed) >> 24);
            b[i][j] = (int16_t)(next_random(&seed) >> 24);
        }
    for (int i = 0; i < ORDER; i++)
        for (int j = 0; j < ORDER; j++) {
            int32_t sum = 0;
            for (int k = 0; k < ORDER; k++) sum += (a[i][k] >> 2 & 15) * (b[k][j] >> 3 & 127);
            c[i][j] = sum;
        }
    int32_t total = 0, last = 0;
    for (int i = 0; i < ORDER; i++)
        for (int j = 0; j < ORDER; j++) {
            total += c[i][j] > last ? 10 : 1;
            last = c[i][j];
        }
    return crc16(crc, (uint32_t)total);
}

/* a scanner that tells numbers apart */

enum { START, SIGN, INTEGER, POINT, FRACTION, EXPONENT, POWER, BAD, STATES };
static const char text[] =
    "5012,1234,-874,+122,35.54400,.1234500,-110.700,+0.64400,5.500e+3,-.123e-2,-87e+832,"
    "+0.6e-12,T0.3e-1F,-T.T++Tq,1T3.4e4z,34.0e-T^";

static int step(int state, char next) {
    int digit = next >= '0' && next <= '9', sign = next == '+' || next == '-';
    switch (state) {
    case START: return digit ? INTEGER : sign ? SIGN : next == '.' ? POINT : BAD;
    case SIGN: return digit ? INTEGER : next == '.' ? POINT : BAD;
    case INTEGER: return digit ? INTEGER : next == '.' ? FRACTION : next == 'e' ? EXPONENT : BAD;
    case POINT: return digit ? FRACTION : BAD;
    case FRACTION: return digit ? FRACTION : next == 'e' ? EXPONENT : BAD;
    case EXPONENT: return sign || digit ? POWER : BAD;
    case POWER: return digit ? POWER : BAD;
    }
    return BAD;
}

static uint16_t scan(uint16_t crc) {
    uint32_t counts[STATES] = {0};
    int state = START;
    for (const char *next = text; *next; next++) {
        if (*next == ',') {
            counts[state]++;
            state = START;
        } else {
            state = step(state, *next);
        }
    }
    for (int i = 0; i < STATES; i++) crc = crc16(crc, counts[i]);
    return crc;
}

uint64_t kernel_mix(uint64_t rounds) {
    uint64_t result = 0;
    while (rounds--) {
        uint16_t crc = lists(0, 1);
        crc = matrices(crc, crc);
        for (int i = 0; i < 4; i++) crc = scan(crc);
        result = fold(result, crc);
    }
    return result;
}
