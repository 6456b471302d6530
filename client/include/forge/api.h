/* What libforge exports. */
#ifndef FORGE_API_H
#define FORGE_API_H

#define FORGE_API __attribute__((visibility("default")))

#endif
