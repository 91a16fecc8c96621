/* Counts instructions in QEMU, each time execution goes from one address to another: exact, whatever the machine is doing.
 *
 *   -plugin count.so,from=ADDRESS,to=ADDRESS,low=ADDRESS,high=ADDRESS,out=FILE
 *
 * FILE gets a line "pass N" for each pass from `from` (included) to `to` (excluded), then "ADDRESS N" for each instruction between
 * low and high that ran on a pass, over all passes. QEMU's header is not in Debian's packages, so what is used of its plugin
 * interface, version 1 (QEMU 4.2 to 8.2), is declared here.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VISIBLE __attribute__((visibility("default")))

typedef uint64_t id_t_;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
void qemu_plugin_register_vcpu_tb_trans_cb(id_t_ id, void (*callback)(id_t_, struct qemu_plugin_tb *));
void qemu_plugin_register_atexit_cb(id_t_ id, void (*callback)(id_t_, void *), void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, void (*callback)(unsigned, void *), int flags, void *data);

VISIBLE int qemu_plugin_version = 1;
VISIBLE int qemu_plugin_install(id_t_ id, const void *info, int count, char **words);

static uint64_t from, to, low, high;
static uint64_t *counts;
static uint64_t pass;
static int inside;
static FILE *file;

static void executed(unsigned cpu, void *address_) {
    const uint64_t address = (uint64_t)(uintptr_t)address_;
    (void)cpu;
    if (address == from)
        inside = 1;
    else if (address == to && inside) {
        fprintf(file, "pass %llu\n", (unsigned long long)pass);
        inside = 0;
        pass = 0;
    }
    if (inside) {
        pass++;
        if (address >= low && address < high)
            counts[(address - low) / 2]++;
    }
}

static void translated(id_t_ id, struct qemu_plugin_tb *tb) {
    (void)id;
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
        struct qemu_plugin_insn *const insn = qemu_plugin_tb_get_insn(tb, i);
        void *const address = (void *)(uintptr_t)qemu_plugin_insn_vaddr(insn);
        qemu_plugin_register_vcpu_insn_exec_cb(insn, executed, 0, address);
    }
}

static void finished(id_t_ id, void *data) {
    (void)id;
    (void)data;
    for (uint64_t i = 0; i < (high - low) / 2; i++)
        if (counts[i])
            fprintf(file, "%llu %llu\n", (unsigned long long)(low + 2 * i), (unsigned long long)counts[i]);
    fclose(file);
}

static int is(const char *word, const char *name, uint64_t *value) {
    const size_t n = strlen(name);
    if (strncmp(word, name, n) != 0)
        return 0;
    *value = strtoull(word + n, NULL, 0);
    return 1;
}

int qemu_plugin_install(id_t_ id, const void *info, int count, char **words) {
    (void)info;
    for (int i = 0; i < count; i++) {
        if (strncmp(words[i], "out=", 4) == 0)
            file = fopen(words[i] + 4, "w");
        else if (!is(words[i], "from=", &from) && !is(words[i], "to=", &to) && !is(words[i], "low=", &low) &&
                 !is(words[i], "high=", &high))
            return -1;
    }
    if (!file || high <= low)
        return -1;
    counts = calloc((size_t)((high - low) / 2), sizeof *counts);
    if (!counts)
        return -1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, finished, NULL);
    return 0;
}
