// The aggregate function `mad`, in C++: how far the numbers of a group lie from their middle, and half of them no farther.
#include <algorithm>
#include <cmath>
#include <exception>
#include <new>
#include <vector>

#include "kuiper_easy.h"

namespace {

using Group = std::vector<double>;

// Nothing may be thrown over the line: what is thrown becomes a failure here.
template <typename Work>
uint32_t guarded(const kuiper_fault *fault, Work work) {
    try {
        return work();
    } catch (const std::bad_alloc &) {
        return kuiper_fail(fault, KUIPER_LATER, "no memory");
    } catch (const std::exception &error) {
        return kuiper_fail(fault, KUIPER_BUG, "%s", error.what());
    } catch (...) {
        return kuiper_fail(fault, KUIPER_BUG, "something was thrown");
    }
}

void *create(void *data, const kuiper_fault *) {
    return data;
}

void destroy(void *) {}

void *start(void *, const kuiper_fault *fault) {
    Group *group = new (std::nothrow) Group;
    if (!group) {
        kuiper_fail(fault, KUIPER_LATER, "no memory");
    }
    return group;
}

uint32_t add(void *, const kuiper_context *, void *group, const kuiper_batch *arguments, const kuiper_fault *fault) {
    return guarded(fault, [&]() -> uint32_t {
        for (size_t row = 0; row < arguments->height; row++) {
            const kuiper_value &value = arguments->values[row * arguments->width];
            if (value.tag == KUIPER_INT) {
                static_cast<Group *>(group)->push_back(static_cast<double>(value.data.int_value));
            } else if (value.tag == KUIPER_FLOAT) {
                static_cast<Group *>(group)->push_back(value.data.float_value);
            } else if (value.tag != KUIPER_NULL && value.tag != KUIPER_MISSING) {
                return kuiper_fail(fault, KUIPER_NEVER, "a number is needed, found %s", kuiper_kind(&value));
            }
        }
        return KUIPER_OK;
    });
}

// The number in the middle; of two, what lies between them. There is at least one.
double median(Group &numbers) {
    auto at = numbers.begin() + static_cast<std::ptrdiff_t>(numbers.size() / 2);
    std::nth_element(numbers.begin(), at, numbers.end());
    return numbers.size() % 2 ? *at : (*std::max_element(numbers.begin(), at) + *at) / 2;
}

// More rows may follow.
uint32_t result(void *, const kuiper_context *, void *group, const kuiper_output *output, const kuiper_fault *fault) {
    return guarded(fault, [&]() -> uint32_t {
        Group numbers = *static_cast<Group *>(group);
        kuiper_value deviation = kuiper_null();
        if (!numbers.empty()) {
            double middle = median(numbers);
            for (double &number : numbers) {
                number = std::fabs(number - middle);
            }
            deviation = kuiper_float(median(numbers));
        }
        output->put(output, &deviation, 1);
        return KUIPER_OK;
    });
}

// What `load` needs to go on after a restart.
uint32_t save(void *, const kuiper_context *, void *group, const kuiper_output *output, const kuiper_fault *fault) {
    return guarded(fault, [&]() -> uint32_t {
        std::vector<kuiper_value> numbers;
        for (double number : *static_cast<Group *>(group)) {
            numbers.push_back(kuiper_float(number));
        }
        kuiper_value all = kuiper_null();
        all.tag = KUIPER_ARRAY;
        all.len = numbers.size();
        all.data.pointer = numbers.data();
        output->put(output, &all, 1);
        return KUIPER_OK;
    });
}

void discard(void *, void *group) {
    delete static_cast<Group *>(group);
}

void *load(void *self, const kuiper_value *saved, const kuiper_fault *fault) {
    void *group = start(self, fault);
    if (!group) {
        return nullptr;
    }
    uint32_t code = guarded(fault, [&]() -> uint32_t {
        const kuiper_value *numbers = static_cast<const kuiper_value *>(saved->data.pointer);
        for (uint64_t at = 0; saved->tag == KUIPER_ARRAY && at < saved->len; at++) {
            if (numbers[at].tag == KUIPER_FLOAT) {
                static_cast<Group *>(group)->push_back(numbers[at].data.float_value);
            }
        }
        return KUIPER_OK;
    });
    if (code != KUIPER_OK) {
        discard(self, group);
        return nullptr;
    }
    return group;
}

const kuiper_function table = {
    sizeof(kuiper_function), 0, create, nullptr, nullptr, start, add, result, save, load, discard, destroy,
};

int nothing;

kuiper_symbol described() {
    kuiper_symbol symbol = {};
    symbol.size = sizeof symbol;
    symbol.kind = KUIPER_FUNCTION;
    symbol.exported = KUIPER_CONSTRUCTOR;
    symbol.flags = KUIPER_AGGREGATE;
    symbol.name = KUIPER_STR("mad");
    symbol.about = KUIPER_STR("Median absolute deviation: how far the numbers lie from their median.");
    symbol.data = &nothing;
    symbol.table = &table;
    symbol.signature = KUIPER_STR("(float) -> float");
    return symbol;
}

const kuiper_symbol symbol = described();
const kuiper_symbol *const symbols[] = {&symbol};

kuiper_plugin offered() {
    kuiper_plugin plugin = {};
    plugin.size = sizeof plugin;
    plugin.abi = KUIPER_ABI_VERSION;
    plugin.name = KUIPER_STR("mad");
    plugin.version = KUIPER_STR("1.0.0");
    plugin.sdk = KUIPER_STR("c++");
    plugin.symbols = symbols;
    plugin.count = sizeof symbols / sizeof *symbols;
    return plugin;
}

const kuiper_plugin plugin = offered();

}  // namespace

KUIPER_EXPORT(plugin)
KUIPER_SYMBOLS("function mad")
