# What a user asks for by name: one table, figure or item, and all of them.

for target in TARGETS:

    rule:
        name:
            target
        input:
            files_of(target),
        localrule: True


rule figures:
    input:
        files_below("figures"),
    localrule: True


rule tables:
    input:
        files_below("tables"),
    localrule: True
