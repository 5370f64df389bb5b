/* records.c: what a business program does: records that are copied and linked, strings, small procedures,
 * enumerations. */
#include "kernels.h"

typedef enum { FIRST, SECOND, THIRD, FOURTH, FIFTH } choice;

typedef struct record {
    struct record *next;
    choice kind, part;
    int number;
    char name[31];
} record;

static record one, two;
static int whole, table[50], square[50][50];
static char letter1, letter2;

static const char some[31] = "A RECORD OF THE BENCH, 1ST TEXT", other[31] = "A RECORD OF THE BENCH, 2ND TEXT";

#define APART __attribute__((noinline)) /* procedures stay calls */

static APART void copy_text(char *to, const char *from, int length) {
    for (int i = 0; i < length; i++) to[i] = from[i];
}

static APART int compare_texts(const char *a, const char *b, int length) {
    for (int i = 0; i < length; i++)
        if (a[i] != b[i]) return a[i] - b[i];
    return 0;
}

static APART int same_letter(char a, char b) {
    if (a != b) return 0;
    letter1 = a;
    return 1;
}

static APART int add_up(int a, int b) { return a + 2 + b; }

static APART choice choose(choice from) {
    switch (from) {
    case FIRST: return FIRST;
    case SECOND: return whole > 100 ? FIRST : FOURTH;
    case THIRD: return SECOND;
    case FOURTH: return FOURTH;
    case FIFTH: return THIRD;
    }
    return from;
}

static APART void fill(int *row, int (*rows)[50], int index, int value) {
    int at = index + 5;
    row[at] = value;
    row[at + 1] = row[at];
    row[at + 30] = at;
    for (int i = at; i <= at + 1; i++) rows[at][i] = at;
    rows[at][at - 1]++;
    rows[at + 20][at] = row[at];
    whole = 5;
}

static APART void link(record *from) {
    record *next = from->next;
    *next = one;
    from->number = 5;
    next->number = from->number;
    next->next = from->next;
    if (next->kind == FIRST) {
        next->number = 6;
        next->part = choose(from->part);
        next->next = one.next;
        next->number = add_up(next->number, 10);
    } else {
        *from = *next;
    }
}

static APART int order_texts(const char *a, const char *b) {
    int i = 2;
    while (i <= 2)
        if (!same_letter(a[i], b[i + 1])) i++;
    if (compare_texts(a, b, sizeof some) <= 0) return 0;
    whole = i + 7;
    return 1;
}

uint64_t kernel_records(uint64_t rounds) {
    uint64_t result = 0;
    one = (record){&two, FIRST, THIRD, 40, {0}};
    copy_text(one.name, some, sizeof some);
    while (rounds--) {
        for (int turn = 0; turn < 1000; turn++) {
            char first[31], second[31];
            int a = 2, b = 3, c = 0;
            letter1 = 'A', letter2 = 'B';
            copy_text(first, some, sizeof some);
            copy_text(second, other, sizeof other);
            choice made = order_texts(first, second) ? FIRST : SECOND;
            while (a < b) {
                c = 5 * a - b;
                c = add_up(a, c);
                a++;
            }
            fill(table, square, a, c);
            link(&one);
            for (char letter = 'A'; letter <= letter2; letter++)
                if (same_letter(letter, 'C')) made = choose(made);
            b = b * a;
            a = b / (c | 1);
            b = 7 * (b - c) - a;
            result = fold(result, (uint64_t)(int64_t)(a + b + c + (int)made + two.number + whole));
        }
    }
    return result;
}
