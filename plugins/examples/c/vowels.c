/* The function `vowels`: how many vowels a text has. */
#include "kuiper_easy.h"

static void *create(void *data, const kuiper_fault *fault) {
    (void)fault;
    /* It keeps nothing, so that its own data will do for an instance. */
    return data;
}

static void destroy(void *self) {
    (void)self;
}

static int64_t count(const char *text, uint64_t len) {
    int64_t found = 0;
    uint64_t at;
    for (at = 0; at < len; at++) {
        found += text[at] && strchr("aeiouAEIOU", text[at]);
    }
    return found;
}

/* Asked when a rule is made; an argument that is no constant is MISSING. */
static uint32_t validate(void *self, const kuiper_value *arguments, size_t width, const kuiper_fault *fault) {
    (void)self;
    if (width == 1 && arguments->tag != KUIPER_TEXT && arguments->tag != KUIPER_NULL && arguments->tag != KUIPER_MISSING) {
        return kuiper_fail(fault, KUIPER_NEVER, "a text is needed, found %s", kuiper_kind(arguments));
    }
    return KUIPER_OK;
}

/* Puts one value, or one failure, for each row of arguments. */
static uint32_t call(void *self, const kuiper_context *context, const kuiper_batch *arguments, const kuiper_output *output,
    const kuiper_fault *fault) {
    size_t row;
    (void)self;
    (void)context;
    if (arguments->width != 1) {
        return kuiper_fail(fault, KUIPER_NEVER, "one argument is needed, found %zu", arguments->width);
    }
    for (row = 0; row < arguments->height; row++) {
        const kuiper_value *text = &arguments->values[row];
        kuiper_value result = kuiper_null();
        if (text->tag == KUIPER_TEXT) {
            result = kuiper_int(count(text->data.pointer, text->len));
        } else if (text->tag != KUIPER_NULL && text->tag != KUIPER_MISSING) {
            char wrong[64];
            snprintf(wrong, sizeof wrong, "a text is needed, found %s", kuiper_kind(text));
            output->fail(output, kuiper_str_of(wrong));
            continue;
        }
        output->put(output, &result, 1);
    }
    return KUIPER_OK;
}

static const kuiper_function table = {
    .size = sizeof table,
    .create = create,
    .validate = validate,
    .call = call,
    .destroy = destroy,
};

static const kuiper_example examples[] = {
    {KUIPER_STR("vowels('Temperature')"), KUIPER_STR("5")},
    {KUIPER_STR("vowels(NULL)"), KUIPER_STR("null")},
};

static int nothing;

static const kuiper_symbol symbol = {
    .size = sizeof symbol,
    .kind = KUIPER_FUNCTION,
    .exported = KUIPER_CONSTRUCTOR,
    .name = KUIPER_STR("vowels"),
    .about = KUIPER_STR("How many vowels a text has."),
    .data = &nothing,
    .table = &table,
    .signature = KUIPER_STR("(text) -> int"),
    .examples = examples,
    .examples_count = sizeof examples / sizeof *examples,
};

static const kuiper_symbol *const symbols[] = {&symbol};

static const kuiper_plugin plugin = {
    .size = sizeof plugin,
    .abi = KUIPER_ABI_VERSION,
    .name = KUIPER_STR("vowels"),
    .version = KUIPER_STR("1.0.0"),
    .sdk = KUIPER_STR("c"),
    .symbols = symbols,
    .count = sizeof symbols / sizeof *symbols,
};

KUIPER_EXPORT(plugin)
KUIPER_SYMBOLS("function vowels")
