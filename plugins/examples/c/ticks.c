/* The source `ticks`: a row with a number that grows, again and again. */
#include "kuiper_easy.h"

struct ticks {
    int64_t start;
    int64_t count;
    int64_t every;
};

static const kuiper_property start_property = {
    sizeof(kuiper_property), 0, KUIPER_STR("start"), KUIPER_STR("The first number."), KUIPER_STR("an integer"), KUIPER_STR("0")};
static const kuiper_property count_property = {
    sizeof(kuiper_property), 0, KUIPER_STR("count"), KUIPER_STR("How many rows; 0 for as long as the rule runs."),
    KUIPER_STR("an integer"), KUIPER_STR("0")};
static const kuiper_property every_property = {
    sizeof(kuiper_property), 0, KUIPER_STR("every"), KUIPER_STR("Milliseconds between two rows."), KUIPER_STR("an integer"),
    KUIPER_STR("1000")};
static const kuiper_property *const properties[] = {&start_property, &count_property, &every_property};

static const kuiper_symbol symbol;

static void *create(void *data, const kuiper_fault *fault) {
    struct ticks *ticks = calloc(1, sizeof *ticks);
    (void)data;
    if (!ticks) {
        kuiper_fail(fault, KUIPER_LATER, "no memory");
    }
    return ticks;
}

/* No input or output here: it is also called to validate a rule that never runs. */
static uint32_t provision(void *self, const kuiper_context *context, const kuiper_value *given, const kuiper_fault *fault) {
    struct ticks *ticks = self;
    uint32_t code = kuiper_check(&symbol, given, fault);
    (void)context;
    ticks->start = 0;
    ticks->count = 0;
    ticks->every = 1000;
    if (code == KUIPER_OK) {
        code = kuiper_int_property(given, "start", INT64_MIN, INT64_MAX, &ticks->start, fault);
    }
    if (code == KUIPER_OK) {
        code = kuiper_int_property(given, "count", 0, INT64_MAX, &ticks->count, fault);
    }
    return code == KUIPER_OK ? kuiper_int_property(given, "every", 0, 86400000, &ticks->every, fault) : code;
}

/* Reaches the outside; here there is none. */
static uint32_t connect(void *self, const kuiper_context *context, const kuiper_fault *fault) {
    (void)self;
    (void)fault;
    kuiper_status(context, KUIPER_CONNECTED, "");
    return KUIPER_OK;
}

/* Emits until there is no more, or the rule is being stopped; it has a thread of its own. */
static uint32_t subscribe(void *self, const kuiper_context *context, const kuiper_fault *fault) {
    static const kuiper_str columns[] = {KUIPER_STR("number")};
    struct ticks *ticks = self;
    int64_t sent;
    (void)fault;
    for (sent = 0; ticks->count == 0 || sent < ticks->count; sent++) {
        kuiper_value number = kuiper_int((int64_t)((uint64_t)ticks->start + (uint64_t)sent));
        kuiper_batch batch = {sizeof batch, 0, columns, 1, 1, &number, NULL, NULL, NULL};
        /* It waits while the rules are busy. */
        uint32_t code = context->emit_rows(context, &batch);
        if (code != KUIPER_OK) {
            return code;
        }
        if (kuiper_wait(context, (uint64_t)ticks->every * 1000000)) {
            return KUIPER_STOPPED;
        }
    }
    return context->emit_end(context);
}

static uint32_t close_nothing(void *self, const kuiper_context *context, const kuiper_fault *fault) {
    (void)self;
    (void)context;
    (void)fault;
    return KUIPER_OK;
}

static const kuiper_source table = {
    .size = sizeof table,
    .create = create,
    .provision = provision,
    .connect = connect,
    .subscribe = subscribe,
    .close = close_nothing,
    .destroy = free,
};

static const kuiper_symbol symbol = {
    .size = sizeof symbol,
    .kind = KUIPER_SOURCE,
    .exported = KUIPER_CONSTRUCTOR,
    .name = KUIPER_STR("Ticks"),
    .about = KUIPER_STR("A number that grows."),
    .table = &table,
    .properties = properties,
    .properties_count = sizeof properties / sizeof *properties,
};

static const kuiper_symbol *const symbols[] = {&symbol};

static const kuiper_plugin plugin = {
    .size = sizeof plugin,
    .abi = KUIPER_ABI_VERSION,
    .name = KUIPER_STR("ticks"),
    .version = KUIPER_STR("1.0.0"),
    .sdk = KUIPER_STR("c"),
    .symbols = symbols,
    .count = sizeof symbols / sizeof *symbols,
};

KUIPER_EXPORT(plugin)
KUIPER_SYMBOLS("source Ticks")
