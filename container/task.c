#include "container/task.h"

const struct task_ops *task_class(const struct spec *s)
{
    return s->isolation == SPEC_VM ? &task_vm : &task_process;
}
