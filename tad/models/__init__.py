"""Teachers and students: architectures, students made from teachers, loading."""
