"""The tests of genro_storage; they mirror the package."""
