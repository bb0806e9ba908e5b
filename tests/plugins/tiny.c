/* A plugin as small as it can be, for tests of what is refused: the sink `Tiny` and the function `tinyTwice`. What is defined
 * makes something of it wrong. */
#include <stdlib.h>

#include "kuiper.h"

#define TEXT(text) {(const uint8_t *)(text), sizeof(text) - 1}

#ifdef NO_MARKER
#elif defined(OTHER_MARKER)
const unsigned char KUIPER_PLUGIN_ABI[16] = "something else.";
#elif defined(MAJOR)
const unsigned char KUIPER_PLUGIN_ABI[16] = {'K', 'U', 'I', 'P', 'E', 'R', '.', 'P', MAJOR};
#else
const unsigned char KUIPER_PLUGIN_ABI[16] = KUIPER_MARKER;
#endif

#ifdef LIST
KUIPER_SYMBOLS(LIST)
#endif

#ifdef GO
__attribute__((section(".go.buildinfo"), used)) static const char buildinfo[] = "\xff Go buildinf:";
#endif

#ifdef NEEDS
extern int NEEDS(void);
int uses(void) { return NEEDS(); }
#endif

#ifdef CRASH
__attribute__((constructor)) static void begin(void) { *(volatile int *)0 = 1; }
#endif

#ifdef HANG
__attribute__((constructor)) static void begin(void) { for (;;) { __asm__ volatile(""); } }
#endif

static void *create(void *data, const kuiper_fault *fault) { (void)data; (void)fault; return malloc(1); }
static void destroy(void *self) { free(self); }

static uint32_t provision(void *self, const kuiper_context *context, const kuiper_value *properties, const kuiper_fault *fault) {
    (void)self; (void)context; (void)properties; (void)fault;
#ifdef PICKY
    static const kuiper_str why = TEXT("not today");
    fault->set(fault, KUIPER_NEVER, why);
    return KUIPER_NEVER;
#else
    return KUIPER_OK;
#endif
}

static uint32_t collect(void *self, const kuiper_context *context, const kuiper_batch *rows, size_t *done, const kuiper_fault *fault) {
    (void)self; (void)context; (void)fault;
    *done = rows->height;
    return KUIPER_OK;
}

static uint32_t call(void *self, const kuiper_context *context, const kuiper_batch *arguments, const kuiper_output *output, const kuiper_fault *fault) {
    (void)self; (void)context; (void)fault;
    for (size_t row = 0; row < arguments->height; row++) {
        kuiper_value value = arguments->values[row * arguments->width];
        value.data.int_value *= 2;
        output->put(output, &value, 1);
    }
    return KUIPER_OK;
}

static const kuiper_sink sink = {.size = sizeof(sink), .create = create, .provision = provision, .collect = collect, .destroy = destroy};
static const kuiper_function twice = {.size = sizeof(twice), .create = create, .call = call, .destroy = destroy};

#ifdef WRONG_EXAMPLE
static const kuiper_example examples[] = {{TEXT("tinyTwice(21)"), TEXT("43")}};
#else
static const kuiper_example examples[] = {{TEXT("tinyTwice(21)"), TEXT("42")}, {TEXT("tinyTwice(-1)"), TEXT("-2")}};
#endif

static const kuiper_property address = {sizeof(address), KUIPER_REQUIRED, TEXT("address"), TEXT("Where to."), TEXT("a text"), {0, 0}};
static const kuiper_property *const properties[] = {&address};

static const kuiper_symbol sink_symbol = {
    .size = sizeof(sink_symbol), .kind = KUIPER_SINK, .name = TEXT("Tiny"), .table = &sink,
#ifdef NEEDY
    .properties = properties, .properties_count = 1,
#endif
};
static const kuiper_symbol twice_symbol = {
    .size = sizeof(twice_symbol), .kind = KUIPER_FUNCTION, .name = TEXT("tinyTwice"), .table = &twice, .signature = TEXT("(bigint) -> bigint"),
    .examples = examples, .examples_count = sizeof(examples) / sizeof(examples[0]),
};
static const kuiper_symbol *const symbols[] = {&sink_symbol, &twice_symbol};

#ifndef NO_ENTRY
const kuiper_plugin *kuiper_plugin_v1(void) {
    static const kuiper_plugin plugin = {
        .size = sizeof(plugin), .abi = KUIPER_ABI_VERSION, .name = TEXT("tiny"), .version = TEXT("1.0.0"), .sdk = TEXT("c"),
        .symbols = symbols, .count = 2,
    };
    (void)properties;
    return &plugin;
}
#endif
