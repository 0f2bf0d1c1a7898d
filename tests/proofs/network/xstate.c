/* User-mode Linux keeps a task's vector registers in a buffer of a fixed size, and the kernel below refuses to
 * set registers from one that is smaller than the processor's (x86 regset xstateregs_set: EFAULT). On processors
 * with AMX it is. Preloaded into linux.uml, this sets what the buffer has and leaves the rest as it is. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

long ptrace(enum __ptrace_request request, ...)
{
    static long (*libc_ptrace)(enum __ptrace_request, ...);
    static unsigned char registers[1 << 16];
    va_list arguments;
    va_start(arguments, request);
    pid_t pid = va_arg(arguments, pid_t);
    void *address = va_arg(arguments, void *);
    void *data = va_arg(arguments, void *);
    va_end(arguments);

    if (request == PTRACE_SETREGSET && address == (void *)NT_X86_XSTATE) {
        struct iovec *given = data;
        struct iovec all = { registers, sizeof registers };
        long got = syscall(SYS_ptrace, PTRACE_GETREGSET, pid, address, &all);
        if (got == 0 && all.iov_len > given->iov_len) {
            memcpy(registers, given->iov_base, given->iov_len);
            return syscall(SYS_ptrace, PTRACE_SETREGSET, pid, address, &all);
        }
    }
    if (!libc_ptrace)
        libc_ptrace = (long (*)(enum __ptrace_request, ...))dlsym(RTLD_NEXT, "ptrace");
    return libc_ptrace(request, pid, address, data);
}
