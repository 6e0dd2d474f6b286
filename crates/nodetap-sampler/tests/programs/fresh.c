/* Spins with its frame at the start of a page, the page below never touched:
 * main, low. */
#include <stdio.h>
#include <sys/mman.h>

/* Makes its frame where the argument points, and spins. */
void low(char *frame);

asm(".text\n"
    ".globl low\n"
    ".type low, @function\n"
    "low:\n"
    "    pop 8(%rdi)\n"
    "    mov %rbp, (%rdi)\n"
    "    mov %rdi, %rbp\n"
    "    mov %rdi, %rsp\n"
    "1:  jmp 1b\n"
    ".size low, .-low\n");

int main(void)
{
    char *pages = mmap(NULL, 2 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED)
        return 1;
    puts("ready");
    fflush(stdout);
    low(pages + 4096);
    return 0;
}
