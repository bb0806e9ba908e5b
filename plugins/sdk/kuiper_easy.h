/* What plugins in C and C++ do again and again, over kuiper.h: text, failures, properties, JSON. C99 or C++11; nothing to link.
 *
 * A plugin may do without it. All here is `static inline`, so that nothing of it is exported.
 */
#ifndef KUIPER_EASY_H
#define KUIPER_EASY_H

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kuiper.h"

#if KUIPER_ABI_MAJOR != 1
#error "this was written for version 1 of the plugin interface"
#endif

/* Whether a struct of the other side is long enough to have this field. */
#define KUIPER_HAS(pointer, field) \
    ((pointer)->size >= (size_t)((const char *)&(pointer)->field - (const char *)(pointer)) + sizeof((pointer)->field))

/* What a library exports: the marker, and the function that gives its table. KUIPER_SYMBOLS beside it says what stands in the table. */
#define KUIPER_EXPORT(table) \
    KUIPER_C KUIPER_VISIBLE const unsigned char KUIPER_PLUGIN_ABI[16]; \
    const unsigned char KUIPER_PLUGIN_ABI[16] = KUIPER_MARKER; \
    KUIPER_C KUIPER_VISIBLE const kuiper_plugin *kuiper_plugin_v1(void); \
    const kuiper_plugin *kuiper_plugin_v1(void) { return &table; }

/* A kuiper_str out of a literal, also where a constant is needed. */
#define KUIPER_STR(literal) {(const uint8_t *)("" literal), sizeof(literal) - 1}

static inline kuiper_str kuiper_str_of(const char *text) {
    kuiper_str made = {(const uint8_t *)text, strlen(text)};
    return made;
}

static inline kuiper_value kuiper_null(void) {
    kuiper_value made = {KUIPER_NULL, 0, 0, {0}};
    return made;
}

static inline kuiper_value kuiper_int(int64_t value) {
    kuiper_value made = kuiper_null();
    made.tag = KUIPER_INT;
    made.data.int_value = value;
    return made;
}

static inline kuiper_value kuiper_float(double value) {
    kuiper_value made = kuiper_null();
    made.tag = KUIPER_FLOAT;
    made.data.float_value = value;
    return made;
}

/* Borrows the text. */
static inline kuiper_value kuiper_text(const char *text, size_t len) {
    kuiper_value made = kuiper_null();
    made.tag = KUIPER_TEXT;
    made.len = len;
    made.data.pointer = text;
    return made;
}

/* What a value is, for messages. */
static inline const char *kuiper_kind(const kuiper_value *value) {
    static const char *const kinds[] = {
        "null", "a boolean", "an integer", "a float", "a text", "bytes", "a datetime", "a list", "an object", "nothing"};
    return value->tag < sizeof kinds / sizeof *kinds ? kinds[value->tag] : "a value of a later version";
}

/* Says why a call fails, and returns the code that it fails with: return kuiper_fail(fault, KUIPER_NEVER, "found %s", what); */
static inline uint32_t kuiper_fail(const kuiper_fault *fault, uint32_t code, const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (fault && KUIPER_HAS(fault, set) && fault->set) {
        fault->set(fault, code, kuiper_str_of(text));
    }
    return code;
}

static inline void kuiper_log(const kuiper_context *context, uint32_t level, const char *text) {
    if (KUIPER_HAS(context, log) && context->log) {
        context->log(context, level, kuiper_str_of(text));
    }
}

/* Reports the connection: KUIPER_CONNECTED and its kin; why may be "". */
static inline void kuiper_status(const kuiper_context *context, uint32_t status, const char *why) {
    if (KUIPER_HAS(context, status) && context->status) {
        context->status(context, status, kuiper_str_of(why));
    }
}

/* Whether the rule is being stopped; waits for that so long. */
static inline int kuiper_wait(const kuiper_context *context, uint64_t nanos) {
    return !KUIPER_HAS(context, wait) || !context->wait || context->wait(context, nanos);
}

/* ---- properties ---- */

/* Names of properties are the same in upper and lower case. */
static inline int kuiper_same_name(kuiper_str one, kuiper_str two) {
    size_t at;
    if (one.len != two.len) {
        return 0;
    }
    for (at = 0; at < one.len; at++) {
        uint8_t a = one.pointer[at], b = two.pointer[at];
        a = a >= 'A' && a <= 'Z' ? (uint8_t)(a + 32) : a;
        b = b >= 'A' && b <= 'Z' ? (uint8_t)(b + 32) : b;
        if (a != b) {
            return 0;
        }
    }
    return 1;
}

/* The member of an object; NULL where there is none, or the value is no object. */
static inline const kuiper_value *kuiper_member_of(const kuiper_value *object, kuiper_str name) {
    const kuiper_member *members = (const kuiper_member *)object->data.pointer;
    uint64_t at;
    for (at = 0; object->tag == KUIPER_OBJECT && at < object->len; at++) {
        if (kuiper_same_name(members[at].key, name)) {
            return &members[at].value;
        }
    }
    return NULL;
}

/* Refuses what the symbol does not declare, and the lack of what it requires. Begin `provision` with it. */
static inline uint32_t kuiper_check(const kuiper_symbol *symbol, const kuiper_value *given, const kuiper_fault *fault) {
    const kuiper_member *members = (const kuiper_member *)given->data.pointer;
    size_t known;
    uint64_t at;
    for (known = 0; known < symbol->properties_count; known++) {
        const kuiper_property *one = symbol->properties[known];
        const kuiper_value *value = kuiper_member_of(given, one->name);
        if (one->flags & KUIPER_REQUIRED && (!value || value->tag == KUIPER_NULL)) {
            return kuiper_fail(fault, KUIPER_NEVER, "property `%.*s` is missing: it must be %.*s", (int)one->name.len,
                (const char *)one->name.pointer, (int)one->expects.len, (const char *)one->expects.pointer);
        }
    }
    for (at = 0; given->tag == KUIPER_OBJECT && at < given->len; at++) {
        for (known = 0; known < symbol->properties_count; known++) {
            if (kuiper_same_name(members[at].key, symbol->properties[known]->name)) {
                break;
            }
        }
        if (known == symbol->properties_count) {
            return kuiper_fail(
                fault, KUIPER_NEVER, "property `%.*s` is not known", (int)members[at].key.len, (const char *)members[at].key.pointer);
        }
    }
    return KUIPER_OK;
}

static inline uint32_t kuiper_wrong(const char *name, const char *expected, const kuiper_value *found, const kuiper_fault *fault) {
    return kuiper_fail(fault, KUIPER_NEVER, "property `%s`: expected %s, found %s", name, expected, kuiper_kind(found));
}

/* Copies a text into fresh memory, ended by NUL; what is not given stays as it is. */
static inline uint32_t kuiper_text_property(const kuiper_value *given, const char *name, char **into, const kuiper_fault *fault) {
    const kuiper_value *value = kuiper_member_of(given, kuiper_str_of(name));
    char *copy;
    if (!value || value->tag == KUIPER_NULL) {
        return KUIPER_OK;
    }
    if (value->tag != KUIPER_TEXT) {
        return kuiper_wrong(name, "a text", value, fault);
    }
    copy = (char *)malloc(value->len + 1);
    if (!copy) {
        return kuiper_fail(fault, KUIPER_LATER, "no memory for property `%s`", name);
    }
    if (value->len) {
        memcpy(copy, value->data.pointer, value->len);
    }
    copy[value->len] = 0;
    free(*into);
    *into = copy;
    return KUIPER_OK;
}

/* Reads an integer from least to most; what is not given stays as it is. */
static inline uint32_t kuiper_int_property(
    const kuiper_value *given, const char *name, int64_t least, int64_t most, int64_t *into, const kuiper_fault *fault) {
    const kuiper_value *value = kuiper_member_of(given, kuiper_str_of(name));
    if (!value || value->tag == KUIPER_NULL) {
        return KUIPER_OK;
    }
    if (value->tag != KUIPER_INT) {
        return kuiper_wrong(name, "an integer", value, fault);
    }
    if (value->data.int_value < least || value->data.int_value > most) {
        return kuiper_fail(fault, KUIPER_NEVER, "property `%s`: expected an integer from %lld to %lld, found `%lld`", name,
            (long long)least, (long long)most, (long long)value->data.int_value);
    }
    *into = value->data.int_value;
    return KUIPER_OK;
}

/* ---- JSON ---- */

/* Bytes that grow. Where memory fails, `failed` is set and nothing more is added. */
typedef struct kuiper_buffer {
    char *bytes;
    size_t len;
    size_t room;
    int failed;
} kuiper_buffer;

static inline void kuiper_add(kuiper_buffer *buffer, const char *bytes, size_t len) {
    if (buffer->len + len > buffer->room) {
        size_t room = (buffer->len + len) * 2;
        char *larger = buffer->failed ? NULL : (char *)realloc(buffer->bytes, room);
        if (!larger) {
            buffer->failed = 1;
            return;
        }
        buffer->bytes = larger;
        buffer->room = room;
    }
    if (len) {
        memcpy(buffer->bytes + buffer->len, bytes, len);
    }
    buffer->len += len;
}

static inline void kuiper_print(kuiper_buffer *buffer, const char *format, ...) {
    char text[128];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    kuiper_add(buffer, text, strlen(text));
}

static inline void kuiper_json_text(kuiper_buffer *buffer, const uint8_t *text, uint64_t len) {
    uint64_t at, from = 0;
    kuiper_add(buffer, "\"", 1);
    for (at = 0; at < len; at++) {
        if (text[at] < 0x20 || text[at] == '"' || text[at] == '\\') {
            kuiper_add(buffer, (const char *)text + from, (size_t)(at - from));
            switch (text[at]) {
            case '\n':
                kuiper_add(buffer, "\\n", 2);
                break;
            case '\r':
                kuiper_add(buffer, "\\r", 2);
                break;
            case '\t':
                kuiper_add(buffer, "\\t", 2);
                break;
            default:
                kuiper_print(buffer, text[at] < 0x20 ? "\\u%04x" : "\\%c", text[at]);
            }
            from = at + 1;
        }
    }
    kuiper_add(buffer, (const char *)text + from, (size_t)(len - from));
    kuiper_add(buffer, "\"", 1);
}

static inline void kuiper_json_bytes(kuiper_buffer *buffer, const uint8_t *bytes, uint64_t len) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint64_t at;
    kuiper_add(buffer, "\"", 1);
    for (at = 0; at < len; at += 3) {
        uint32_t group = (uint32_t)bytes[at] << 16;
        char four[4];
        group |= at + 1 < len ? (uint32_t)bytes[at + 1] << 8 : 0;
        group |= at + 2 < len ? bytes[at + 2] : 0;
        four[0] = letters[group >> 18];
        four[1] = letters[group >> 12 & 63];
        four[2] = at + 1 < len ? letters[group >> 6 & 63] : '=';
        four[3] = at + 2 < len ? letters[group & 63] : '=';
        kuiper_add(buffer, four, 4);
    }
    kuiper_add(buffer, "\"", 1);
}

/* RFC 3339, on the clock of its zone. */
static inline void kuiper_json_time(kuiper_buffer *buffer, int64_t nanos, int32_t offset) {
    int64_t seconds = nanos / 1000000000 - (nanos % 1000000000 < 0), rest = nanos - seconds * 1000000000;
    int64_t local = seconds + offset, days = local / 86400 - (local % 86400 < 0), of_day = local - days * 86400;
    /* Days since 0000-03-01, in eras of 400 years: leap days stand at the end of each. */
    int64_t shifted = days + 719468, era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
    int64_t of_era = shifted - era * 146097;
    int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year + year / 4 - year / 100), march = (5 * of_year + 2) / 153;
    int month = (int)(march < 10 ? march + 3 : march - 9), day = (int)(of_year - (153 * march + 2) / 5 + 1);
    kuiper_print(buffer, "\"%04d-%02d-%02dT%02d:%02d:%02d", (int)(year + era * 400 + (month <= 2)), month, day,
        (int)(of_day / 3600), (int)(of_day / 60 % 60), (int)(of_day % 60));
    if (rest % 1000000 == 0 && rest) {
        kuiper_print(buffer, ".%03d", (int)(rest / 1000000));
    } else if (rest % 1000 == 0 && rest) {
        kuiper_print(buffer, ".%06d", (int)(rest / 1000));
    } else if (rest) {
        kuiper_print(buffer, ".%09d", (int)rest);
    }
    if (offset) {
        int minutes = (offset < 0 ? -offset : offset) / 60;
        kuiper_print(buffer, "%c%02d:%02d\"", offset < 0 ? '-' : '+', minutes / 60, minutes % 60);
    } else {
        kuiper_add(buffer, "Z\"", 2);
    }
}

/* Adds a value as JSON: bytes as base64, times as RFC 3339, floats that JSON cannot say as null. */
static inline void kuiper_json(kuiper_buffer *buffer, const kuiper_value *value) {
    uint64_t at;
    int digits;
    char number[40];
    switch (value->tag) {
    case KUIPER_BOOL:
        kuiper_print(buffer, value->data.int_value ? "true" : "false");
        break;
    case KUIPER_INT:
        kuiper_print(buffer, "%lld", (long long)value->data.int_value);
        break;
    case KUIPER_FLOAT:
        if (!isfinite(value->data.float_value)) {
            kuiper_print(buffer, "null");
            break;
        }
        /* As few digits as say the number. */
        for (digits = 15; digits <= 17; digits++) {
            snprintf(number, sizeof number, "%.*g", digits, value->data.float_value);
            if (strtod(number, NULL) == value->data.float_value) {
                break;
            }
        }
        kuiper_print(buffer, "%s", number);
        break;
    case KUIPER_TEXT:
        kuiper_json_text(buffer, (const uint8_t *)value->data.pointer, value->len);
        break;
    case KUIPER_BYTES:
        kuiper_json_bytes(buffer, (const uint8_t *)value->data.pointer, value->len);
        break;
    case KUIPER_TIME:
        kuiper_json_time(buffer, value->data.int_value, value->extra);
        break;
    case KUIPER_ARRAY:
        kuiper_add(buffer, "[", 1);
        for (at = 0; at < value->len; at++) {
            kuiper_add(buffer, ",", at > 0);
            kuiper_json(buffer, (const kuiper_value *)value->data.pointer + at);
        }
        kuiper_add(buffer, "]", 1);
        break;
    case KUIPER_OBJECT:
        kuiper_add(buffer, "{", 1);
        for (at = 0; at < value->len; at++) {
            const kuiper_member *member = (const kuiper_member *)value->data.pointer + at;
            kuiper_add(buffer, ",", at > 0);
            kuiper_json_text(buffer, member->key.pointer, member->key.len);
            kuiper_add(buffer, ":", 1);
            kuiper_json(buffer, &member->value);
        }
        kuiper_add(buffer, "}", 1);
        break;
    default:
        kuiper_print(buffer, "null");
    }
}

/* Adds a row of a batch as an object, without the columns that it does not have. */
static inline void kuiper_json_row(kuiper_buffer *buffer, const kuiper_batch *batch, size_t row) {
    const kuiper_value *cells = batch->values + row * batch->width;
    const char *before = "{";
    size_t column;
    for (column = 0; column < batch->width; column++) {
        if (cells[column].tag != KUIPER_MISSING) {
            kuiper_add(buffer, before, 1);
            kuiper_json_text(buffer, batch->columns[column].pointer, batch->columns[column].len);
            kuiper_add(buffer, ":", 1);
            kuiper_json(buffer, &cells[column]);
            before = ",";
        }
    }
    kuiper_add(buffer, *before == '{' ? "{}" : "}", *before == '{' ? 2 : 1);
}

#endif
