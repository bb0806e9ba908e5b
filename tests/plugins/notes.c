/* A plugin that does with what it stores as it is told: a function, an aggregate and a sink, which neither flushes nor says where it stands.
 *
 * What it is told are words: `a=1` puts 1 under `a`, `-a` drops it, `a+1` counts it; `refuse` ends the call with a refusal, `bug` with a bug,
 * `abort` ends the process, `hang` does not return. Where `@` and a path follow such a word, it is heeded only when there is a file of that
 * path, which is removed.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kuiper.h"

__attribute__((visibility("default"))) const unsigned char KUIPER_PLUGIN_ABI[16] = KUIPER_MARKER;

#define TEXT(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}

static kuiper_str text(const char *from) {
    kuiper_str made = {(const uint8_t *)from, strlen(from)};
    return made;
}

static kuiper_value integer(int64_t number) {
    kuiper_value made = {KUIPER_INT, 0, 0, {.int_value = number}};
    return made;
}

static uint32_t heed(const kuiper_context *context, char *word, const kuiper_fault *fault) {
    char *sign;
    if (word[0] == '-') {
        kuiper_value nothing = {KUIPER_NULL, 0, 0, {0}};
        return context->state_put(context, text(word + 1), &nothing);
    }
    if ((sign = strchr(word, '=')) != NULL) {
        *sign = 0;
        kuiper_value value = integer(atoll(sign + 1));
        return context->state_put(context, text(word), &value);
    }
    if ((sign = strchr(word, '+')) != NULL) {
        *sign = 0;
        context->count(context, text(word), atoll(sign + 1));
        return KUIPER_OK;
    }
    if ((sign = strchr(word, '@')) != NULL) {
        *sign = 0;
        if (unlink(sign + 1) != 0) {
            return KUIPER_OK;
        }
    }
    if (strcmp(word, "abort") == 0) {
        abort();
    }
    while (strcmp(word, "hang") == 0) {
        pause();
    }
    uint32_t code = strcmp(word, "bug") == 0 ? KUIPER_BUG : strcmp(word, "refuse") == 0 ? KUIPER_NEVER : KUIPER_OK;
    if (code != KUIPER_OK) {
        fault->set(fault, code, text("as it was told"));
    }
    return code;
}

static uint32_t heed_all(const kuiper_context *context, const kuiper_value *told, const kuiper_fault *fault) {
    if (told->tag != KUIPER_TEXT) {
        return KUIPER_OK;
    }
    char *words = strndup(told->data.pointer, told->len), *rest = words, *word;
    uint32_t code = KUIPER_OK;
    while (code == KUIPER_OK && (word = strsep(&rest, " ")) != NULL) {
        code = heed(context, word, fault);
    }
    free(words);
    return code;
}

static void *create(void *data, const kuiper_fault *fault) {
    (void)data, (void)fault;
    return malloc(1);
}

/* Gives what is then counted under `a`. */
static uint32_t call(void *self, const kuiper_context *context, const kuiper_batch *rows, const kuiper_output *output, const kuiper_fault *fault) {
    (void)self;
    for (size_t row = 0; row < rows->height; row++) {
        uint32_t code = heed_all(context, &rows->values[row * rows->width], fault);
        if (code != KUIPER_OK) {
            return code;
        }
        kuiper_value now = integer(context->count(context, text("a"), 0));
        output->put(output, &now, 1);
    }
    return KUIPER_OK;
}

static const kuiper_function function = {.size = sizeof(kuiper_function), .create = create, .call = call, .destroy = free};

/* The sum of what was counted under `a` after each row, times a thousand, and what is counted there now. */
static void *start(void *self, const kuiper_fault *fault) {
    (void)self, (void)fault;
    return calloc(1, sizeof(int64_t));
}

static uint32_t add(void *self, const kuiper_context *context, void *group, const kuiper_batch *rows, const kuiper_fault *fault) {
    (void)self;
    for (size_t row = 0; row < rows->height; row++) {
        uint32_t code = heed_all(context, &rows->values[row * rows->width], fault);
        if (code != KUIPER_OK) {
            return code;
        }
        *(int64_t *)group += context->count(context, text("a"), 0);
    }
    return KUIPER_OK;
}

static uint32_t result(void *self, const kuiper_context *context, void *group, const kuiper_output *output, const kuiper_fault *fault) {
    (void)self, (void)fault;
    kuiper_value both = integer(*(int64_t *)group * 1000 + context->count(context, text("a"), 0));
    output->put(output, &both, 1);
    return KUIPER_OK;
}

static uint32_t save(void *self, const kuiper_context *context, void *group, const kuiper_output *output, const kuiper_fault *fault) {
    (void)self, (void)context, (void)fault;
    kuiper_value sum = integer(*(int64_t *)group);
    output->put(output, &sum, 1);
    return KUIPER_OK;
}

static void *load(void *self, const kuiper_value *saved, const kuiper_fault *fault) {
    int64_t *group = start(self, fault);
    *group = saved->data.int_value;
    return group;
}

static void discard(void *self, void *group) {
    (void)self;
    free(group);
}

static const kuiper_function aggregate = {
    .size = sizeof(kuiper_function), .create = create, .start = start, .add = add, .result = result, .save = save, .load = load, .discard = discard, .destroy = free};
static const kuiper_function unsaved = {
    .size = sizeof(kuiper_function), .create = create, .start = start, .add = add, .result = result, .discard = discard, .destroy = free};

/* Heeds the first column of each row. */
static uint32_t collect(void *self, const kuiper_context *context, const kuiper_batch *rows, size_t *taken, const kuiper_fault *fault) {
    (void)self;
    for (*taken = 0; *taken < rows->height; ++*taken) {
        uint32_t code = heed_all(context, &rows->values[*taken * rows->width], fault);
        if (code != KUIPER_OK) {
            return code;
        }
    }
    return KUIPER_OK;
}

static uint32_t collect_list(void *self, const kuiper_context *context, const kuiper_batch *rows, const kuiper_fault *fault) {
    size_t taken;
    return collect(self, context, rows, &taken, fault);
}

static const kuiper_sink sink = {.size = sizeof(kuiper_sink), .create = create, .collect = collect, .collect_list = collect_list, .destroy = free};

#define SYMBOL .size = sizeof(kuiper_symbol), .exported = KUIPER_CONSTRUCTOR, .state_version = 1, .state_oldest = 1
static const kuiper_symbol notes = {SYMBOL, .kind = KUIPER_FUNCTION, .name = TEXT("notes"), .table = &function, .signature = TEXT("(text) -> int")};
static const kuiper_symbol sums = {SYMBOL, .kind = KUIPER_FUNCTION, .flags = KUIPER_AGGREGATE, .name = TEXT("notesSum"), .table = &aggregate, .signature = TEXT("(text) -> int")};
static const kuiper_symbol unsaved_sums = {SYMBOL, .kind = KUIPER_FUNCTION, .flags = KUIPER_AGGREGATE, .name = TEXT("notesUnsaved"), .table = &unsaved, .signature = TEXT("(text) -> int")};
static const kuiper_symbol writes = {SYMBOL, .kind = KUIPER_SINK, .name = TEXT("Notes"), .table = &sink};
static const kuiper_symbol *const symbols[] = {&notes, &sums, &unsaved_sums, &writes};

__attribute__((visibility("default"))) const kuiper_plugin *kuiper_plugin_v1(void) {
    static const kuiper_plugin plugin = {sizeof plugin, KUIPER_ABI_VERSION, TEXT("notes"), TEXT("1.0.0"), TEXT("c"), symbols, 4};
    return &plugin;
}
