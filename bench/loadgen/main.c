#include "loadgen.h"

#include <string.h>

int main(int argc, char **argv) {
    if (argc < 2)
        die("a mode is missing: edit, sync or presence");
    options(argc - 2, argv + 2);
    if (!strcmp(argv[1], "edit"))
        return edit_mode();
    if (!strcmp(argv[1], "sync"))
        return sync_mode();
    if (!strcmp(argv[1], "presence"))
        return presence_mode();
    die("unknown mode '%s'", argv[1]);
}
