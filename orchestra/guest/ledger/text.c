// text.c: words read from a request and the text built in answer, without a libc.
#include "text.h"

struct word word_of(const char *text) {
    struct word word = {text, 0};
    while (text[word.length]) word.length++;
    return word;
}

int word_is(const struct word *word, const char *text) {
    for (size_t i = 0; i < word->length; i++)
        if (!text[i] || word->at[i] != text[i]) return 0;
    return !text[word->length];
}

enum word_error word_number(const struct word *word, uint64_t *value) {
    uint64_t sum = 0;
    if (!word->length) return WORD_NO_NUMBER;
    for (size_t i = 0; i < word->length; i++) {
        uint8_t digit = (uint8_t)(word->at[i] - '0');
        if (digit > 9) return WORD_NO_NUMBER;
        if (sum > (UINT64_MAX - digit) / 10) return WORD_TOO_LARGE;
        sum = sum * 10 + digit;
    }
    *value = sum;
    return WORD_IS_NUMBER;
}

void text_add_bytes(struct text *text, const char *bytes, size_t length) {
    for (size_t i = 0; i < length && text->length < TEXT_BYTES; i++) text->bytes[text->length++] = bytes[i];
}

void text_add(struct text *text, const char *words) { text_add_bytes(text, words, word_of(words).length); }

void text_add_number(struct text *text, uint64_t number) {
    char digits[20];
    size_t used = sizeof digits;
    do {
        digits[--used] = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    text_add_bytes(text, digits + used, sizeof digits - used);
}
