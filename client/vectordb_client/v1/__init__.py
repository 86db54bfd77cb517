"""Messages and options generated from proto/ by tools/proto.sh. Don't edit."""
