// text.h: words read from a request and the text built in answer, without a libc.
#ifndef TEXT_H
#define TEXT_H

#include <stddef.h>
#include <stdint.h>

enum { TEXT_BYTES = 33280, TEXT_FULL = 32768 }; // a list is sent when it is longer than TEXT_FULL

struct word {
    const char *at; // not ended by a zero
    size_t length;
};

struct text {
    uint64_t length;
    char bytes[TEXT_BYTES];
};

enum word_error { WORD_IS_NUMBER, WORD_NO_NUMBER, WORD_TOO_LARGE };

struct word word_of(const char *text);
int word_is(const struct word *word, const char *text);
enum word_error word_number(const struct word *word, uint64_t *value); // decimal, up to 2^64 - 1

// What does not fit is cut off.
void text_add_bytes(struct text *text, const char *bytes, size_t length);
void text_add(struct text *text, const char *words);
void text_add_number(struct text *text, uint64_t number);

#endif
